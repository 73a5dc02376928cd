//! What a stock host says, and what a hostile one may say.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[test]
fn a_stock_host_is_understood() {
    // In the order in which a host sends them after the registration (timeSync.c).
    let mut options = Options::default();
    for (name, value) in [
        ("synctime", "0"),
        ("copypaste", "0"),
        ("autohide", "0"),
        ("broadcastIP", "1"),
        ("enableDnD", "0"),
        ("synctime.period", "0"),
        ("time.synchronize.tools.enable", "1"),
        ("time.synchronize.guest.resync", "0"),
        ("time.synchronize.guest.resync.timeout", "0"),
        ("time.synchronize.tools.startup.backward", "0"),
        ("time.synchronize.tools.startup", "1"),
        ("toolScripts.afterPowerOn", "1"),
        ("toolScripts.afterResume", "1"),
        ("toolScripts.beforeSuspend", "1"),
        ("toolScripts.beforePowerOff", "1"),
    ] {
        assert!(Name::parse(name.as_bytes()).is_some(), "{name}");
        assert_eq!(
            options.set(name.as_bytes(), value.as_bytes()),
            Ok(Outcome::Changed)
        );
    }
    assert_eq!(options.flag(Name::SyncTime), Some(false));
    assert_eq!(options.flag(Name::TimeToolsStartup), Some(true));
    assert_eq!(options.flag(Name::EnableAppInfo), None);
    assert_eq!(options.iter().count(), 15);
}

#[test]
fn every_name_of_the_protocol_is_known() {
    let names = "broadcastIP synctime synctime.period time.synchronize.allow time.synchronize.tools.enable \
                 time.synchronize.tools.startup time.synchronize.tools.startup.backward \
                 time.synchronize.tools.slewCorrection time.synchronize.tools.percentCorrection \
                 time.synchronize.guest.resync time.synchronize.guest.resync.timeout toolScripts.afterPowerOn \
                 toolScripts.beforePowerOff toolScripts.afterResume toolScripts.beforeSuspend copypaste autohide \
                 enableDnD mapRootHgfsShare linkRootHgfsShare enableMessageBusTunnel guestLogLevel enableAppInfo \
                 enableGuestStoreAccess enableDeviceHelper";
    let names: Vec<_> = names.split_ascii_whitespace().collect();
    let known: Vec<_> = Name::ALL.iter().map(|name| name.as_str()).collect();
    assert_eq!(known, names);
    assert!(names.iter().all(|name| name.len() <= Options::MAX_NAME));
    assert_eq!(Name::parse(b"BroadcastIP"), None);
    assert_eq!(Name::parse(b"broadcastIP "), None);
}

#[test]
fn a_value_changes_only_when_it_differs() {
    let mut options = Options::default();
    for name in [b"synctime".as_slice(), b"newInEsxi10"] {
        assert_eq!(options.set(name, b"0"), Ok(Outcome::Changed));
        assert_eq!(options.set(name, b"0"), Ok(Outcome::Unchanged));
        assert_eq!(options.set(name, b"1 and more\0\xff"), Ok(Outcome::Changed));
    }
    assert_eq!(
        options.value(Name::SyncTime),
        Some(b"1 and more\0\xff".as_slice())
    );
    assert_eq!(options.flag(Name::SyncTime), None);
}

#[test]
fn without_name_or_value_it_is_an_error_and_nothing_is_lost() {
    let mut options = Options::default();
    options.set(b"synctime", b"1").unwrap();
    assert_eq!(options.set(b"synctime", b""), Err(OptionError::NoValue));
    assert_eq!(options.set(b"unknown", b""), Err(OptionError::NoValue));
    assert_eq!(options.set(b"", b"1"), Err(OptionError::NoName));
    assert_eq!(options.set(b"", b""), Err(OptionError::NoName));
    assert_eq!(options.flag(Name::SyncTime), Some(true));
    assert_eq!(options.iter().count(), 1);
}

#[test]
fn what_is_too_long_is_accepted_and_forgotten() {
    let mut options = Options::default();
    let longest = vec![b'v'; Options::MAX_VALUE];
    let too_long = vec![b'v'; Options::MAX_VALUE + 1];
    for name in [b"guestLogLevel".as_slice(), b"unknown"] {
        assert_eq!(options.set(name, &longest), Ok(Outcome::Changed));
        assert!(options.iter().any(|(kept, _)| kept == name));
        assert_eq!(options.set(name, &too_long), Ok(Outcome::NotKept));
        assert!(!options.iter().any(|(kept, _)| kept == name));
    }
    assert_eq!(
        options.set(&[b'n'; Options::MAX_NAME], b"1"),
        Ok(Outcome::Changed)
    );
    assert_eq!(
        options.set(&[b'n'; Options::MAX_NAME + 1], b"1"),
        Ok(Outcome::NotKept)
    );
    assert_eq!(options.iter().count(), 1);
}

#[test]
fn a_flood_of_unknown_names_leaves_room_for_the_known() {
    let mut options = Options::default();
    for number in 0..1000 {
        let outcome = options.set(format!("unknown{number}").as_bytes(), b"1");
        let expected = if number < Options::MAX_OTHERS {
            Outcome::Changed
        } else {
            Outcome::NotKept
        };
        assert_eq!(outcome, Ok(expected));
    }
    assert_eq!(options.set(b"unknown0", b"2"), Ok(Outcome::Changed));
    for name in Name::ALL {
        assert_eq!(options.set(name.as_str().as_bytes(), b"1"), Ok(Outcome::Changed));
        assert_eq!(options.flag(*name), Some(true));
    }
    assert_eq!(options.iter().count(), Options::MAX_OTHERS + Name::ALL.len());
}

#[test]
fn the_clock_request_is_read_with_and_without_its_nul() {
    for (arguments, backward) in [
        (b" 0".as_slice(), Some(false)),
        (b" 1", Some(true)),
        (b" 1\0", Some(true)),
        (b"  0 \0\0", Some(false)),
        (b" 1\0garbage", Some(true)),
        (b"", None),
        (b" ", None),
        (b"\0 1", None),
        (b" 2", None),
        (b" -1", None),
        (b" 01", None),
        (b" 1 0", None),
        (b" \xff", None),
    ] {
        assert_eq!(TimeSynchronize::parse(arguments), TimeSynchronize { backward });
    }
}

/// Names that meet the bounds from both sides, few enough to be set more than once.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(Name::ALL).prop_map(|name| name.as_str().as_bytes().to_vec()),
        (0..40_u8).prop_map(|number| vec![b'x', number]),
        (63..67_usize).prop_map(|len| vec![b'n'; len]),
        prop::collection::vec(any::<u8>(), 0..4),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"0".to_vec()),
        Just(b"1".to_vec()),
        (254..259_usize).prop_map(|len| vec![b'v'; len]),
        prop::collection::vec(any::<u8>(), 0..4),
    ]
}

proptest! {
    /// Whatever is set: what is remembered is what was said last, and never more than the bounds.
    #[test]
    fn what_is_remembered_was_said_last(settings in prop::collection::vec((name(), value()), 0..200)) {
        let mut options = Options::default();
        let mut expected = BTreeMap::new();
        for (name, value) in settings {
            let before = expected.get(&name).cloned();
            match options.set(&name, &value) {
                Ok(Outcome::Changed) => {
                    prop_assert_ne!(before.as_ref(), Some(&value));
                    expected.insert(name, value);
                }
                Ok(Outcome::Unchanged) => prop_assert_eq!(before, Some(value)),
                Ok(Outcome::NotKept) => {
                    expected.remove(&name);
                }
                Err(_) => prop_assert!(name.is_empty() || value.is_empty()),
            }
        }
        let kept: BTreeMap<_, _> =
            options.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        prop_assert_eq!(&kept, &expected);
        let others = kept.keys().filter(|name| Name::parse(name).is_none());
        prop_assert!(others.count() <= Options::MAX_OTHERS);
        for (name, value) in &kept {
            prop_assert!((1..=Options::MAX_NAME).contains(&name.len()));
            prop_assert!((1..=Options::MAX_VALUE).contains(&value.len()));
        }
    }

    #[test]
    fn any_clock_request_is_read(arguments in prop::collection::vec(any::<u8>(), 0..40)) {
        let text: Vec<_> = arguments.iter().copied().take_while(|byte| *byte != 0).collect();
        let expected = match text.trim_ascii() {
            b"0" => Some(false),
            b"1" => Some(true),
            _ => None,
        };
        prop_assert_eq!(TimeSynchronize::parse(&arguments).backward, expected);
    }
}
