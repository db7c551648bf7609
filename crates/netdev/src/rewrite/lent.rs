//! Changes in frames that a burst lends.

use super::{Part, TAG, Tagging};
use crate::burst::{Burst, Frames, Heads, Lengths, head_len, places};
use packet::BATCH_LEN;

/// [`Burst::rewrite`] for bursts that lend their frames.
pub(crate) fn rewrite_frames(burst: &mut (impl Burst + ?Sized), parts: &mut [Part<'_>]) {
    let (unfinished, can_pop, is_whole) = (burst.unfinished(), burst.can_shrink(TAG), burst.is_whole());
    let (mut grows, mut lens): (Lengths, _) = ([0; BATCH_LEN], [0; BATCH_LEN]);
    let mut edited = 0;
    let mut heads: Heads<'_> = [&[]; BATCH_LEN];
    burst.heads(&mut heads);
    for part in parts.iter_mut() {
        let tagging = part.how.tagging;
        for place in places(part.start()) {
            let head = heads[place];
            // What is lent is no less than that.
            let own = if is_whole { head.len() } else { head_len(head).min(head.len()) };
            if unfinished & (1 << place) != 0 && part.how.moves()
                || tagging == Tagging::Pop && !can_pop
                || part.how.layout(&head[..own]).is_none()
            {
                continue;
            }
            part.places |= 1 << place;
            lens[place] = head.len();
            match tagging {
                Tagging::Push => grows[place] = TAG as u16,
                Tagging::Leave | Tagging::Pop => edited |= 1 << place,
            }
        }
    }
    if grows != [0; BATCH_LEN] {
        let mut frames: Frames<'_> = std::array::from_fn(|_| &mut [][..]);
        let grown = burst.grow(&grows, &mut frames);
        for part in parts.iter_mut().filter(|part| part.how.tagging == Tagging::Push) {
            apply_all(part, grown, &mut frames, &lens);
        }
    }
    if edited != 0 {
        let mut frames: Frames<'_> = std::array::from_fn(|_| &mut [][..]);
        let lent = burst.edit(edited, &mut frames);
        let (mut shrinks, mut by): (_, Lengths) = (false, [0; BATCH_LEN]);
        for part in parts.iter_mut().filter(|part| part.how.tagging != Tagging::Push) {
            apply_all(part, lent, &mut frames, &lens);
            if part.how.tagging == Tagging::Pop {
                places(part.places).for_each(|place| by[place] = TAG as u16);
                shrinks |= part.places != 0;
            }
        }
        if shrinks {
            burst.shrink(&by);
        }
    }
}

/// Changes those of a part's packets that are lent; they were as long as `lens` says.
fn apply_all(part: &mut Part<'_>, lent: u32, frames: &mut Frames<'_>, lens: &[usize; BATCH_LEN]) {
    for place in places(part.start() & lent) {
        if part.how.apply(frames[place]) {
            let len = match part.how.tagging {
                Tagging::Leave => lens[place],
                Tagging::Push => lens[place] + TAG,
                Tagging::Pop => lens[place] - TAG,
            };
            part.note(place, len);
        }
    }
}
