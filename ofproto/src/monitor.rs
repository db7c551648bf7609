//! The monitor thread: sends and expires the sessions of ports, whatever else the daemon is busy with.

use crate::async_event::AsyncEvent;
use crate::bfd::Bfd;
use crate::effects::{self, Passed};
use crate::fabric::Fabric;
use crate::ids::{OfPort, SwitchId};
use crate::rule::Count;
use crate::switch::State;
use crate::xlate::{SwitchInput, translate_switch};
use dpif::PortNo;
use flow::tun_flags;
use openflow::action::{Action, Output};
use packet::Packet;
use packet::parse::{Meta, flow_of};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Real time between two looks at a clock that is stopped.
const STOPPED_NAP: Duration = Duration::from_millis(10);
const IDLE_NAP: Duration = Duration::from_secs(60);
/// Of the thread, in bytes.
const STACK: usize = 8 << 20;

type Key = (SwitchId, OfPort);

/// The sessions of a fabric's ports.
#[derive(Debug, Default)]
pub struct Sessions {
    inner: Mutex<Inner>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    bfd: Arc<BTreeMap<Key, Arc<Bfd>>>,
    stop: bool,
    /// Something changed since the thread last looked.
    poked: bool,
}

impl Sessions {
    fn change(&self, f: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner.lock();
        f(&mut inner);
        inner.poked = true;
        self.woken.notify_all();
    }

    /// Every BFD session with its port.
    pub fn bfd(&self) -> Arc<BTreeMap<Key, Arc<Bfd>>> {
        self.inner.lock().bfd.clone()
    }

    /// A session has something to do before it expected to.
    pub fn poke(&self) {
        self.change(|_| {});
    }

    /// Waits for a change, or `nap`. `None` when the thread is to end.
    fn wait(&self, nap: Duration) -> Option<()> {
        let mut inner = self.inner.lock();
        if !inner.poked && !inner.stop {
            self.woken.wait_for(&mut inner, nap);
        }
        inner.poked = false;
        (!inner.stop).then_some(())
    }
}

impl Fabric {
    /// Gives a port a BFD session, another one, or none.
    pub fn set_bfd(&self, switch: SwitchId, port: OfPort, bfd: Option<Arc<Bfd>>) {
        if let Ok(s) = self.write().switch_mut(switch)
            && let Some(p) = s.ports.get_mut(&port)
        {
            p.bfd = bfd.clone();
        }
        self.sessions.change(|inner| {
            let all = Arc::make_mut(&mut inner.bfd);
            match bfd {
                Some(bfd) => all.insert((switch, port), bfd),
                None => all.remove(&(switch, port)),
            };
        });
        self.changed();
    }

    /// A session of a port changed; `flipped` says that the port became usable or unusable by it.
    pub fn session_changed(&self, switch: SwitchId, port: OfPort, flipped: bool) {
        if flipped {
            self.changed();
        }
        self.async_queue.push(AsyncEvent::Session { switch, port, flipped });
    }

    /// Hands a packet to the sessions that it is for.
    pub(crate) fn deliver(&self, state: &State, sessions: &[Arc<Bfd>], packet: &Packet, ttl: u8) {
        for bfd in sessions {
            let news = bfd.receive(packet, ttl, self.clock.now_ms());
            self.sessions.poke();
            if news.changed
                && let Some((switch, port)) = state.find_session(bfd)
            {
                self.session_changed(switch, port, news.flipped);
            }
        }
    }

    /// Sends a frame of the switch's own out of a port; `oam` marks it in a tunnel.
    fn send_out(&self, switch: SwitchId, port: OfPort, frame: &[u8], oam: bool) {
        let mut packet = Packet::from_slice(frame);
        let mut flow = flow_of(&mut packet, &Meta::default());
        flow.in_port = u32::from(OfPort::NONE.0);
        if oam {
            flow.tunnel.flags |= tun_flags::OAM;
        }
        let actions = [Action::Output(Output { port, max_len: 0 })];
        let input = SwitchInput {
            switch,
            flow: flow.clone(),
            packet: Some(&packet),
            actions: Some(&actions),
            is_packet_out: false,
            frozen: None,
            trace: None,
        };
        let now_ms = self.clock.now_ms();
        let passed =
            Passed { count: Count { packets: 1, bytes: packet.len() as u64 }, used_ms: now_ms, tcp_flags: 0 };
        let mut deferred = Vec::new();
        let t = {
            let state = self.read();
            let t = translate_switch(self, &state, input);
            effects::apply(&state, &t.effects, passed, &mut deferred);
            self.deliver(&state, &t.sessions, &packet, flow.nw_ttl);
            t
        };
        self.carry_out(deferred);
        self.recirc.retire(t.recircs, now_ms);
        flow.in_port = PortNo::NONE.0;
        self.dpif.execute(packet, &flow, &t.actions);
    }

    /// One run over all sessions; returns when the next one is due, in milliseconds of the clock.
    fn run_sessions(&self) -> u64 {
        let mut due_ms = u64::MAX;
        for ((switch, port), bfd) in self.sessions.bfd().iter() {
            let now_ms = self.clock.now_ms();
            if bfd.look(|s| s.due_ms()) <= now_ms {
                let mac = self.read().switch(*switch).and_then(|s| Some(s.port(*port)?.link.mac));
                let act = |s: &mut crate::bfd::session::Session, rx| {
                    s.run(now_ms, rx);
                    (s.transmit(now_ms, mac.unwrap_or_default()), s.settings.oam)
                };
                let ((frame, oam), news) = bfd.with(now_ms, act);
                if let Some(frame) = frame {
                    self.send_out(*switch, *port, &frame, oam);
                }
                if news.changed {
                    self.session_changed(*switch, *port, news.flipped);
                }
            }
            due_ms = due_ms.min(bfd.look(|s| s.due_ms()));
        }
        due_ms
    }
}

/// The thread; it ends when this is dropped.
pub struct Monitor {
    fabric: Arc<Fabric>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts the thread. `tell_name` is called in it with its name, for the log.
    pub fn start(fabric: &Arc<Fabric>, tell_name: fn(&str)) -> std::io::Result<Self> {
        let worker = fabric.clone();
        fabric.sessions.change(|inner| inner.stop = false);
        let life = move || {
            tell_name("monitor");
            let mut nap = Duration::ZERO;
            while worker.sessions.wait(nap).is_some() {
                let due_ms = worker.run_sessions();
                nap = match due_ms.saturating_sub(worker.clock.now_ms()) {
                    _ if due_ms == u64::MAX => IDLE_NAP,
                    _ if worker.clock.is_stopped() => STOPPED_NAP,
                    ms => Duration::from_millis(ms),
                };
            }
        };
        // What it sends may run through many lists of actions on this thread.
        let thread = std::thread::Builder::new().name("monitor".to_owned()).stack_size(STACK).spawn(life)?;
        Ok(Monitor { fabric: fabric.clone(), thread: Some(thread) })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.fabric.sessions.change(|inner| inner.stop = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
