//! The part that stands on the backdoor thread.

#![forbid(unsafe_code)]

use super::{control::Control, uptime};
use crate::{
    rpci::Request,
    tclo::{Command, Feature, Reply},
};

/// Turns what the host says into signals for the publisher.
#[derive(Debug)]
pub struct GuestInfo {
    control: Control,
}

impl GuestInfo {
    /// Signals through `control`.
    pub const fn new(control: Control) -> Self {
        Self { control }
    }
}

impl Feature for GuestInfo {
    fn name(&self) -> &'static str {
        "guestinfo"
    }

    /// The uptime of this moment. A host that does not get it with the registration cannot restart the guest a second
    /// time (guestInfoServer.c).
    fn capabilities(&mut self) -> Vec<Request> {
        uptime::request().into_iter().collect()
    }

    fn on_reset(&mut self) {
        self.control.reset();
    }

    /// Takes no command for itself: an option is remembered and acknowledged by the dispatcher.
    fn handle(&mut self, command: &Command<'_>) -> Option<Reply> {
        match command {
            Command::SetOption {
                name: b"broadcastIP",
                value: b"1",
            } => self.control.broadcast_ip(),
            Command::SetOption {
                name: b"enableAppInfo",
                value: value @ (b"0" | b"1"),
            } => self.control.list_containers(*value == b"1"),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_what_the_host_says() {
        let control = Control::default();
        let wants = control.subscribe();
        let mut feature = GuestInfo::new(control);

        feature.on_reset();
        assert_eq!(wants.borrow().resets, 1);
        for (name, value, broadcasts) in [
            (b"broadcastIP".as_slice(), b"1".as_slice(), 1),
            (b"broadcastIP", b"0", 1),
            (b"synctime", b"1", 1),
            (b"broadcastIP", b"1", 2),
        ] {
            assert_eq!(feature.handle(&Command::SetOption { name, value }), None);
            assert_eq!(wants.borrow().broadcasts, broadcasts);
        }
    }

    #[test]
    fn the_host_switches_the_list_of_containers() {
        let control = Control::default();
        let wants = control.subscribe();
        let mut feature = GuestInfo::new(control.clone());
        for (value, off) in [
            (b"0".as_slice(), true),
            (b"maybe", true),
            (b"1", false),
            (b"0", true),
        ] {
            let name = b"enableAppInfo".as_slice();
            assert_eq!(feature.handle(&Command::SetOption { name, value }), None);
            assert_eq!(wants.borrow().containers_off, off, "{value:?}");
        }
        control.forget();
        assert!(
            wants.borrow().containers_off,
            "a resume without reset leaves the host's word"
        );
        feature.on_reset();
        assert!(!wants.borrow().containers_off);
    }

    #[test]
    fn registers_with_a_fresh_uptime() {
        let mut feature = GuestInfo::new(Control::default());
        let requests = feature.capabilities();
        assert_eq!(requests.len(), 1);
        let text = std::str::from_utf8(requests[0].bytes()).unwrap();
        let value: u64 = text
            .strip_prefix("SetGuestInfo  7 ")
            .and_then(|rest| rest.strip_suffix('\0'))
            .unwrap()
            .parse()
            .unwrap();
        assert!(value > 0);
        assert!(uptime::hundredths().unwrap() >= value);
    }
}
