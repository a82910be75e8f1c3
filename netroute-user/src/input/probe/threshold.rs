//! How many answers in a row change the mind about a next hop. Pure.

/// Starts as alive; changes after `needed` results in a row that say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    needed: u8,
    alive: bool,
    /// Results in a row against `alive`.
    against: u8,
}

impl Threshold {
    /// `needed` of 0 counts as 1.
    #[must_use]
    pub fn new(needed: u8) -> Self {
        Self { needed: needed.max(1), alive: true, against: 0 }
    }

    /// Takes one result; the new state if it changed.
    pub fn record(&mut self, answered: bool) -> Option<bool> {
        if answered == self.alive {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        if self.against < self.needed {
            return None;
        }
        self.alive = answered;
        self.against = 0;
        Some(answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each result and what it told: `+` alive, `-` dead, `.` nothing.
    fn told(needed: u8, results: &str) -> String {
        let mut threshold = Threshold::new(needed);
        let tell = |result| match threshold.record(result == '1') {
            Some(true) => '+',
            Some(false) => '-',
            None => '.',
        };
        results.chars().map(tell).collect()
    }

    #[test]
    fn dies_and_revives_after_as_many_in_a_row() {
        assert_eq!(told(3, "1000111"), "...-..+");
    }

    #[test]
    fn a_single_answer_starts_the_count_anew() {
        assert_eq!(told(3, "00100100"), "........");
        assert_eq!(told(3, "00011011000"), "..-........");
    }

    #[test]
    fn tells_each_state_once() {
        assert_eq!(told(2, "0000001111"), ".-.....+..");
    }

    #[test]
    fn one_and_zero_change_at_once() {
        assert_eq!(told(1, "010"), "-+-");
        assert_eq!(told(0, "010"), "-+-");
    }
}
