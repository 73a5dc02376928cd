//! What is news about the offset, and what is published of it.

use std::time::Duration;

use super::{Measured, Offset};

/// An offset from here on is published (certificates and etcd leases begin to suffer).
pub const LIMIT: Duration = Duration::from_secs(1);

/// Under this the clocks are together again. Lower than [`LIMIT`], so that a value at the limit does not toggle.
const TOGETHER: Duration = Duration::from_millis(800);

/// A change of this size is news, and published.
const CHANGE: Duration = Duration::from_secs(1);

/// What a measurement means to a reader of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing that was not said.
    None,
    /// Apart since this measurement, or by another amount.
    Apart(Offset),
    /// Together again.
    Together(Offset),
    /// The host tells no time.
    NoHostTime,
}

/// The memory of what was said.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    apart: Option<Offset>,
    without_time: bool,
}

impl Watch {
    /// Takes one measurement into account.
    pub fn see(&mut self, measured: Measured) -> News {
        let offset = match measured {
            Measured::Disturbed => return News::None,
            Measured::NoHostTime => {
                let news = !std::mem::replace(&mut self.without_time, true);
                // Nothing is known any more, so nothing is claimed.
                self.apart = None;
                return if news { News::NoHostTime } else { News::None };
            }
            Measured::Offset(offset) => offset,
        };
        self.without_time = false;
        match self.apart {
            None if offset.size() >= LIMIT => {}
            None => return News::None,
            Some(_) if offset.size() < TOGETHER => {
                self.apart = None;
                return News::Together(offset);
            }
            Some(said) if said.distance(offset) < CHANGE => return News::None,
            Some(_) => {}
        }
        self.apart = Some(offset);
        News::Apart(offset)
    }

    /// The value of `guestinfo.talos.clock-offset`.
    pub fn published(&self) -> String {
        self.apart.map(|offset| offset.to_string()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(tenths: i64) -> Offset {
        Offset::from_micros(tenths * 100_000)
    }

    #[test]
    fn said_when_it_begins_changes_and_ends() {
        let mut watch = Watch::default();
        for (tenths, news, published) in [
            (0, News::None, ""),
            (9, News::None, ""),
            (10, News::Apart(seconds(10)), "+1.0"),
            (9, News::None, "+1.0"),
            (15, News::None, "+1.0"),
            (20, News::Apart(seconds(20)), "+2.0"),
            (-600, News::Apart(seconds(-600)), "-60.0"),
            (-7, News::Together(seconds(-7)), ""),
            (-8, News::None, ""),
        ] {
            assert_eq!(watch.see(Measured::Offset(seconds(tenths))), news, "{tenths}");
            assert_eq!(watch.published(), published);
        }
    }

    #[test]
    fn a_host_without_time_is_said_once_and_takes_the_value_back() {
        let mut watch = Watch::default();
        watch.see(Measured::Offset(seconds(50)));
        assert_eq!(watch.see(Measured::Disturbed), News::None);
        assert_eq!(watch.published(), "+5.0");
        assert_eq!(watch.see(Measured::NoHostTime), News::NoHostTime);
        assert_eq!(watch.see(Measured::NoHostTime), News::None);
        assert_eq!(watch.published(), "");
        assert_eq!(watch.see(Measured::Offset(seconds(0))), News::None);
        assert_eq!(watch.see(Measured::NoHostTime), News::NoHostTime);
    }
}
