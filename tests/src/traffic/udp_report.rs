//! What became of a numbered stream: pure bookkeeping over (number, arrival time).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// A run of numbers that never arrived, between two arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub first: u64,
    pub count: u64,
    /// The last arrival before and the first one after. The same twice if none came after.
    pub from: SystemTime,
    pub to: SystemTime,
}

impl Loss {
    pub fn outage(&self) -> Duration {
        self.to.duration_since(self.from).unwrap_or_default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamReport {
    pub sent: u64,
    /// Different datagrams that arrived.
    pub received: u64,
    pub lost: u64,
    /// The part of `lost` that the sender's own kernel refused (no route).
    pub refused: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// Longest time between two arrivals, whatever the cause.
    pub longest_gap: Duration,
    /// Longest time between two arrivals with losses between them; zero if nothing was lost.
    pub longest_outage: Duration,
    /// Longest time that the sender itself was held up.
    pub longest_sender_pause: Duration,
    pub losses: Vec<Loss>,
}

impl fmt::Display for StreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, received, lost, refused, duplicated, reordered, losses, .. } = self;
        write!(
            f,
            "{sent} sent, {received} received, {lost} lost in {} runs ({refused} refused), \
             {duplicated} duplicated, {reordered} reordered, longest gap {:?}, outage {:?}, \
             sender pause {:?}",
            losses.len(),
            self.longest_gap,
            self.longest_outage,
            self.longest_sender_pause
        )
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    seen: Vec<u64>,
    received: u64,
    duplicated: u64,
    reordered: u64,
    next: u64,
    last: Option<SystemTime>,
    longest_gap: Duration,
    skipped: Vec<Loss>,
}

impl Tally {
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn arrived(&mut self, number: u64, at: SystemTime) {
        let last = self.last.unwrap_or(at);
        self.longest_gap = self.longest_gap.max(at.duration_since(last).unwrap_or_default());
        self.last = Some(at);
        if !self.mark(number) {
            self.duplicated += 1;
            return;
        }
        self.received += 1;
        if number < self.next {
            self.reordered += 1;
            return;
        }
        if number > self.next {
            let (first, count) = (self.next, number - self.next);
            self.skipped.push(Loss { first, count, from: last, to: at });
        }
        self.next = number + 1;
    }

    pub(super) fn report(mut self, sent: u64, refused: u64, pause: Duration) -> StreamReport {
        let end = self.last.unwrap_or(SystemTime::UNIX_EPOCH);
        if sent > self.next {
            let (first, count) = (self.next, sent - self.next);
            self.skipped.push(Loss { first, count, from: end, to: end });
        }
        // Some of what was skipped has come later, out of order.
        let losses: Vec<_> = self
            .skipped
            .iter()
            .map(|skipped| Loss { count: self.missing(skipped), ..*skipped })
            .filter(|loss| loss.count > 0)
            .collect();
        StreamReport {
            sent,
            received: self.received,
            lost: losses.iter().map(|loss| loss.count).sum(),
            refused,
            duplicated: self.duplicated,
            reordered: self.reordered,
            longest_gap: self.longest_gap,
            longest_outage: losses.iter().map(Loss::outage).max().unwrap_or_default(),
            longest_sender_pause: pause,
            losses,
        }
    }

    fn missing(&self, skipped: &Loss) -> u64 {
        let range = skipped.first..skipped.first + skipped.count;
        range.filter(|number| !self.is_seen(*number)).count() as u64
    }

    /// False if it was marked before.
    fn mark(&mut self, number: u64) -> bool {
        let (word, bit) = place(number);
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        new
    }

    fn is_seen(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.seen.get(word).is_some_and(|seen| seen & bit != 0)
    }
}

fn place(number: u64) -> (usize, u64) {
    ((number / 64) as usize, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    fn report(arrivals: &[(u64, u64)], sent: u64) -> StreamReport {
        let mut tally = Tally::default();
        arrivals.iter().for_each(|(number, time)| tally.arrived(*number, at(*time)));
        tally.report(sent, 0, Duration::ZERO)
    }

    #[test]
    fn a_hole_is_lost_and_lasts_from_arrival_to_arrival() {
        let report = report(&[(0, 10), (1, 11), (4, 18), (5, 19)], 6);
        assert_eq!((report.received, report.lost, report.duplicated), (4, 2, 0));
        assert_eq!(report.losses, [Loss { first: 2, count: 2, from: at(11), to: at(18) }]);
        assert_eq!(report.longest_outage, Duration::from_millis(7));
    }

    #[test]
    fn what_comes_late_is_reordered_and_not_lost() {
        let report = report(&[(0, 1), (2, 2), (1, 3), (1, 9)], 3);
        assert_eq!((report.received, report.lost), (3, 0));
        assert_eq!((report.reordered, report.duplicated), (1, 1));
        assert_eq!(report.longest_outage, Duration::ZERO);
        assert_eq!(report.longest_gap, Duration::from_millis(6));
    }

    #[test]
    fn the_first_and_the_last_can_be_lost_too() {
        let report = report(&[(1, 5)], 4);
        assert_eq!((report.received, report.lost, report.losses.len()), (1, 3, 2));
    }

    #[test]
    fn nothing_arrived() {
        let report = report(&[], 3);
        assert_eq!((report.received, report.lost), (0, 3));
    }
}
