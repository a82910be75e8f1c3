//! Work that signals do not disturb.

use nix::sys::signal::{SigSet, SigmaskHow};

/// The calling thread's signals as they were, which it gets back with the end of the value.
struct Mask(SigSet);

/// Does the work with all signals of the calling thread held back until it is done. Those to the process go to
/// its other threads meanwhile. SIGKILL and SIGSTOP cannot be held back.
pub(super) fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    let _mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).map(Mask);
    work()
}

impl Drop for Mask {
    fn drop(&mut self) {
        // A mask that the thread had before is valid.
        let _ = self.0.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    #[test]
    fn signals_are_held_back_and_let_through_again() {
        let holds = |signal| SigSet::thread_get_mask().expect("a mask").contains(signal);
        let signals = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGUSR1];
        let before = signals.map(holds);
        undisturbed(|| assert!(signals.into_iter().all(holds)));
        assert_eq!(signals.map(holds), before);
        assert!(std::panic::catch_unwind(|| undisturbed(|| panic!("on purpose"))).is_err());
        assert_eq!(signals.map(holds), before, "after a panic");
    }
}
