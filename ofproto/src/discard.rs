//! Memory of many rules goes back without anybody waiting for it: a client that empties a table has its answer
//! before that.

/// So many things are dropped faster than a thread is started.
const FEW: usize = 1024;

/// Drops `what`, which consists of about `size` things.
pub fn later<T: Send + 'static>(what: T, size: usize) {
    if size > FEW {
        // Where no thread can be had, it is dropped here and now.
        let _ = std::thread::Builder::new().name("discard".to_owned()).spawn(move || drop(what));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    #[test]
    fn what_is_discarded_goes() {
        let (sender, receiver) = mpsc::channel::<()>();
        let few = Arc::new(());
        super::later(few.clone(), 1);
        assert_eq!(Arc::strong_count(&few), 1);
        super::later(sender, super::FEW + 1);
        assert!(receiver.recv().is_err(), "the other end was dropped");
    }
}
