use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn physical(kind: &str) -> LinkStatus {
    LinkStatus {
        link_type: 1,
        kind: kind.into(),
        ..LinkStatus::default()
    }
}

fn address(link: &str, last: u8) -> AddressStatus {
    AddressStatus {
        address: Prefix::new([10, 0, 0, last].into(), 24).unwrap(),
        link_name: link.into(),
        scope: 0,
        flags: 0,
    }
}

fn route(link: &str, table: i32, priority: u32) -> RouteStatus {
    RouteStatus {
        destination: Prefix::new([0, 0, 0, 0].into(), 0).unwrap(),
        gateway: None,
        source: None,
        out_link_name: link.into(),
        table,
        priority,
        route_type: 1,
    }
}

/// Every physical link is reported.
fn reducer() -> Reducer {
    Reducer::new(Arc::new(|links: &BTreeMap<String, LinkStatus>| {
        links
            .iter()
            .filter(|(_, link)| link.is_physical())
            .map(|(name, _)| name.clone())
            .collect()
    }))
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn feed(reducer: &mut Reducer, event: Event) -> bool {
    reducer.apply(event, at(1))
}

fn subscribed(reducer: &mut Reducer, resource_type: ResourceType) {
    let links = reducer.selected().cloned().unwrap_or_default();
    assert!(
        !feed(reducer, Event::Subscribed { resource_type, links }),
        "a watch that begins changes nothing"
    );
}

fn put_link(id: &str, link: LinkStatus) -> Event {
    Event::Put(Resource::Link(id.into(), link))
}

fn put_address(id: &str, value: AddressStatus) -> Event {
    Event::Put(Resource::Address(id.into(), value))
}

fn removed(resource_type: ResourceType, id: &str) -> Event {
    Event::Removed {
        resource_type,
        id: id.into(),
    }
}

fn lost(resource_type: ResourceType) -> Event {
    Event::Lost {
        resource_type,
        reason: String::new(),
    }
}

/// Links eth0 and, if `second`, eth1; one address on each; all known.
fn settled(second: bool) -> Reducer {
    let mut reducer = reducer();
    subscribed(&mut reducer, ResourceType::Link);
    feed(&mut reducer, put_link("eth0", physical("")));
    if second {
        feed(&mut reducer, put_link("eth1", physical("")));
    }
    assert!(feed(&mut reducer, Event::Bootstrapped(ResourceType::Link)));
    subscribed(&mut reducer, ResourceType::Address);
    feed(&mut reducer, put_address("eth0/a", address("eth0", 1)));
    if second {
        feed(&mut reducer, put_address("eth1/a", address("eth1", 2)));
    }
    assert!(feed(&mut reducer, Event::Bootstrapped(ResourceType::Address)));
    reducer
}

fn addresses(reducer: &Reducer) -> Vec<&str> {
    reducer
        .snapshot()
        .addresses
        .value()
        .map(|held| held.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

#[test]
fn nothing_is_known_before_the_set_is_complete() {
    let mut reducer = reducer();
    subscribed(&mut reducer, ResourceType::Link);
    assert!(!feed(&mut reducer, put_link("eth0", physical(""))));
    assert_eq!(reducer.snapshot().links, Fact::Unknown);
    assert!(reducer.selected().is_none());
    assert!(feed(&mut reducer, Event::Bootstrapped(ResourceType::Link)));
    assert_eq!(reducer.snapshot().links.value().unwrap().len(), 1);
    assert!(reducer.selected().unwrap().contains("eth0"));
}

#[test]
fn pod_links_change_nothing() {
    let mut reducer = settled(false);
    let before = reducer.snapshot().clone();
    for number in 0..3000 {
        assert!(!feed(
            &mut reducer,
            put_link(&format!("veth{number}"), physical("veth"))
        ));
    }
    assert!(!feed(&mut reducer, removed(ResourceType::Link, "veth7")));
    assert_eq!(reducer.snapshot(), &before);
}

#[test]
fn a_collection_has_a_limit() {
    let mut reducer = settled(false);
    assert_eq!(reducer.full().count(), 0);
    for number in 0..MAX_HELD + 10 {
        feed(
            &mut reducer,
            put_address(&format!("eth0/{number}"), address("eth0", 7)),
        );
    }
    assert_eq!(addresses(&reducer).len(), MAX_HELD);
    assert_eq!(reducer.full().collect::<Vec<_>>(), [ResourceType::Address]);
    assert!(
        feed(&mut reducer, put_address("eth0/0", address("eth0", 8))),
        "what is held still changes"
    );
    subscribed(&mut reducer, ResourceType::Address);
    for number in 0..MAX_HELD + 10 {
        feed(
            &mut reducer,
            put_address(&format!("eth0/{number}"), address("eth0", 7)),
        );
    }
    feed(&mut reducer, Event::Bootstrapped(ResourceType::Address));
    assert_eq!(addresses(&reducer).len(), MAX_HELD);
}

#[test]
fn a_stacked_link_is_held_and_not_reported() {
    let mut reducer = settled(false);
    assert!(feed(&mut reducer, put_link("bond0", physical("bond"))));
    assert!(reducer.snapshot().links.value().unwrap().contains_key("bond0"));
    assert!(!reducer.selected().unwrap().contains("bond0"));
}

#[test]
fn an_unchanged_link_is_no_change() {
    let mut reducer = settled(false);
    assert!(!feed(&mut reducer, put_link("eth0", physical(""))));
    let slower = LinkStatus {
        mtu: 1400,
        ..physical("")
    };
    assert!(feed(&mut reducer, put_link("eth0", slower)));
}

#[test]
fn only_main_unicast_routes_of_reported_links() {
    let mut reducer = settled(false);
    subscribed(&mut reducer, ResourceType::Route);
    let put = |id: &str, route| Event::Put(Resource::Route(id.into(), route));
    feed(&mut reducer, put("inet4/default", route("eth0", 254, 1)));
    feed(&mut reducer, put("inet4/pod", route("cali1", 254, 1)));
    feed(&mut reducer, put("local/inet4/x", route("eth0", 255, 1)));
    assert!(feed(&mut reducer, Event::Bootstrapped(ResourceType::Route)));
    let held = reducer.snapshot().routes.value().unwrap();
    assert_eq!(held.keys().collect::<Vec<_>>(), ["inet4/default"]);
    assert!(!feed(&mut reducer, put("inet4/pod2", route("cali2", 254, 1))));
    assert!(feed(&mut reducer, put("inet4/default", route("eth0", 254, 2))));
    let blackhole = RouteStatus {
        route_type: 6,
        ..route("eth0", 254, 2)
    };
    assert!(
        feed(&mut reducer, put("inet4/default", blackhole)),
        "a route that turns into none of ours goes"
    );
    assert!(reducer.snapshot().routes.value().unwrap().is_empty());
}

#[test]
fn a_change_shares_every_other_collection() {
    let mut reducer = settled(true);
    let before = reducer.snapshot().clone();
    assert!(feed(&mut reducer, put_address("eth0/b", address("eth0", 9))));
    let after = reducer.snapshot();
    assert_eq!(
        before.addresses.value().unwrap().len(),
        2,
        "a published snapshot never changes"
    );
    assert_eq!(after.addresses.value().unwrap().len(), 3);
    assert!(Arc::ptr_eq(
        before.links.value().unwrap(),
        after.links.value().unwrap()
    ));
}

#[test]
fn a_reconnect_replaces_the_truth_in_one_step() {
    let mut reducer = settled(true);
    assert!(reducer.apply(Event::Disconnected, at(5)));
    assert!(
        !reducer.apply(Event::Disconnected, at(6)),
        "stale since the first"
    );
    assert!(matches!(reducer.snapshot().addresses, Fact::Stale { since, .. } if since == at(5)));
    assert_eq!(reducer.unanswered().len(), ResourceType::ALL.len());

    subscribed(&mut reducer, ResourceType::Link);
    feed(&mut reducer, put_link("eth0", physical("")));
    feed(&mut reducer, put_link("eth1", physical("")));
    let shared = Arc::clone(reducer.snapshot().links.value().unwrap());
    assert!(feed(&mut reducer, Event::Bootstrapped(ResourceType::Link)));
    assert!(
        Arc::ptr_eq(&shared, reducer.snapshot().links.value().unwrap()),
        "the same again is the same object"
    );

    subscribed(&mut reducer, ResourceType::Address);
    feed(&mut reducer, put_address("eth1/b", address("eth1", 3)));
    assert_eq!(addresses(&reducer), ["eth0/a", "eth1/a"]);
    assert!(feed(&mut reducer, Event::Bootstrapped(ResourceType::Address)));
    assert_eq!(addresses(&reducer), ["eth1/b"]);
}

#[test]
fn a_deselected_link_takes_its_addresses_with_it() {
    let mut reducer = settled(true);
    assert!(!reducer.unanswered().contains(&ResourceType::Address));
    assert!(feed(&mut reducer, removed(ResourceType::Link, "eth1")));
    assert_eq!(addresses(&reducer), ["eth0/a"]);
    assert!(
        reducer.unanswered().contains(&ResourceType::Address),
        "the watch was made for other links"
    );

    subscribed(&mut reducer, ResourceType::Address);
    feed(&mut reducer, put_address("eth0/a", address("eth0", 1)));
    assert!(
        !feed(&mut reducer, Event::Bootstrapped(ResourceType::Address)),
        "the same set"
    );
    assert!(!reducer.unanswered().contains(&ResourceType::Address));
}

#[test]
fn an_answer_for_other_links_is_taken_and_another_awaited() {
    let mut reducer = settled(false);
    subscribed(&mut reducer, ResourceType::Address);
    feed(&mut reducer, put_link("eth1", physical("")));
    feed(&mut reducer, put_address("eth0/a", address("eth0", 1)));
    feed(&mut reducer, Event::Bootstrapped(ResourceType::Address));
    assert_eq!(addresses(&reducer), ["eth0/a"]);
    assert!(reducer.unanswered().contains(&ResourceType::Address));
}

#[test]
fn what_cannot_be_read_stays_as_it_was() {
    let undecodable = |resource_type, id: &str| Event::Undecodable {
        resource_type,
        id: id.into(),
        reason: String::new(),
    };
    let mut reducer = settled(true);
    assert!(!feed(&mut reducer, undecodable(ResourceType::Address, "eth0/a")));
    assert_eq!(addresses(&reducer), ["eth0/a", "eth1/a"]);
    // And over a reconnect.
    feed(&mut reducer, lost(ResourceType::Address));
    subscribed(&mut reducer, ResourceType::Address);
    feed(&mut reducer, undecodable(ResourceType::Address, "eth0/a"));
    feed(
        &mut reducer,
        undecodable(ResourceType::Address, "eth0/never-seen"),
    );
    feed(&mut reducer, Event::Bootstrapped(ResourceType::Address));
    assert_eq!(addresses(&reducer), ["eth0/a"]);
}

#[test]
fn a_single_resource_that_vanishes_is_stale() {
    let mut reducer = reducer();
    let running = MachineStatus {
        stage: 4,
        ready: true,
        unmet_conditions: vec![],
    };
    subscribed(&mut reducer, ResourceType::Machine);
    assert!(
        !feed(&mut reducer, removed(ResourceType::Machine, "machine")),
        "unknown stays unknown"
    );
    feed(&mut reducer, Event::Bootstrapped(ResourceType::Machine));
    assert_eq!(reducer.snapshot().machine, Fact::Unknown);
    assert!(
        !reducer.unanswered().contains(&ResourceType::Machine),
        "there is none: that is an answer"
    );
    assert!(feed(&mut reducer, Event::Put(Resource::Machine(running.clone()))));
    assert!(!feed(
        &mut reducer,
        Event::Put(Resource::Machine(running.clone()))
    ));
    assert!(feed(&mut reducer, removed(ResourceType::Machine, "machine")));
    assert_eq!(
        reducer.snapshot().machine,
        Fact::Stale {
            value: running,
            since: at(1)
        }
    );
}

#[test]
fn a_kind_watch_that_brings_no_resource_marks_the_last_one_stale() {
    let mut reducer = reducer();
    let name = HostnameStatus {
        hostname: "talos-1".into(),
        domainname: String::new(),
    };
    subscribed(&mut reducer, ResourceType::Hostname);
    feed(&mut reducer, Event::Put(Resource::Hostname(name)));
    assert!(!feed(&mut reducer, Event::Bootstrapped(ResourceType::Hostname)));
    subscribed(&mut reducer, ResourceType::Hostname);
    assert!(feed(&mut reducer, Event::Bootstrapped(ResourceType::Hostname)));
    assert!(matches!(reducer.snapshot().hostname, Fact::Stale { .. }));
}

#[test]
fn a_refused_type_counts_as_answered_and_stays_unknown() {
    let mut reducer = reducer();
    let refused = Event::Refused {
        resource_type: ResourceType::Security,
        reason: String::new(),
    };
    assert!(!feed(&mut reducer, refused));
    assert_eq!(reducer.snapshot().security, Fact::Unknown);
    assert!(!reducer.unanswered().contains(&ResourceType::Security));
}

/// What a collection is, said as simply as possible: the set that is being told, and the set that is held.
#[derive(Default)]
struct Model {
    told: Option<BTreeMap<String, AddressStatus>>,
    held: BTreeMap<String, AddressStatus>,
    known: bool,
    ever: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe,
    Put(u8, u8, bool),
    Remove(u8),
    Undecodable(u8),
    Complete,
    Lose,
    Refuse,
    Disconnect,
    /// An event of another type, which must not show here.
    Foreign(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Subscribe),
        6 => (0..4u8, 0..3u8, any::<bool>()).prop_map(|(id, value, ours)| Step::Put(id, value, ours)),
        3 => (0..4u8).prop_map(Step::Remove),
        2 => (0..4u8).prop_map(Step::Undecodable),
        3 => Just(Step::Complete),
        1 => Just(Step::Lose),
        1 => Just(Step::Refuse),
        1 => Just(Step::Disconnect),
        2 => any::<u8>().prop_map(Step::Foreign),
    ];
    prop::collection::vec(step, 0..60)
}

impl Model {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Subscribe => self.told = Some(BTreeMap::new()),
            Step::Put(id, value, ours) => {
                let id = format!("eth0/{id}");
                let (told, known) = (&mut self.told, self.known);
                if let Some(set) = told.as_mut().or_else(|| known.then_some(&mut self.held)) {
                    if ours {
                        set.insert(id, address("eth0", value));
                    } else {
                        set.remove(&id);
                    }
                }
            }
            Step::Remove(id) => {
                let known = self.known;
                if let Some(set) = self.told.as_mut().or_else(|| known.then_some(&mut self.held)) {
                    set.remove(&format!("eth0/{id}"));
                }
            }
            Step::Undecodable(id) => {
                let id = format!("eth0/{id}");
                if let (Some(set), Some(value)) = (&mut self.told, self.held.get(&id))
                    && !set.contains_key(&id)
                {
                    set.insert(id, value.clone());
                }
            }
            Step::Complete => {
                if let Some(set) = self.told.take() {
                    self.held = set;
                    self.known = true;
                    self.ever = true;
                }
            }
            Step::Lose | Step::Refuse | Step::Disconnect => {
                self.told = None;
                self.known = false;
            }
            Step::Foreign(_) => {}
        }
    }
}

fn event(step: &Step, links: Arc<BTreeSet<String>>) -> Event {
    let resource_type = ResourceType::Address;
    match *step {
        Step::Subscribe => Event::Subscribed { resource_type, links },
        Step::Put(id, value, ours) => put_address(
            &format!("eth0/{id}"),
            address(if ours { "eth0" } else { "cali0" }, value),
        ),
        Step::Remove(id) => removed(resource_type, &format!("eth0/{id}")),
        Step::Undecodable(id) => Event::Undecodable {
            resource_type,
            id: format!("eth0/{id}"),
            reason: String::new(),
        },
        Step::Complete => Event::Bootstrapped(resource_type),
        Step::Lose => lost(resource_type),
        Step::Refuse => Event::Refused {
            resource_type,
            reason: String::new(),
        },
        Step::Disconnect => Event::Disconnected,
        Step::Foreign(number) => match number % 4 {
            0 => Event::Put(Resource::NodeAddress("eth0/1".into(), vec![])),
            1 => removed(ResourceType::Route, "eth0/1"),
            2 => Event::Bootstrapped(ResourceType::Machine),
            _ => Event::Put(Resource::Security(SecurityState::default())),
        },
    }
}

proptest! {
    /// Any order of events, with duplicates and without sense, equals the model; and what `apply` returns is whether
    /// the snapshot is another one.
    #[test]
    fn a_collection_is_what_was_told(steps in steps()) {
        let mut reducer = reducer();
        subscribed(&mut reducer, ResourceType::Link);
        feed(&mut reducer, put_link("eth0", physical("")));
        feed(&mut reducer, Event::Bootstrapped(ResourceType::Link));
        let links = reducer.selected().cloned().unwrap();
        let mut model = Model::default();
        for step in steps {
            let before = reducer.snapshot().clone();
            let changed = feed(&mut reducer, event(&step, Arc::clone(&links)));
            model.step(&step);
            prop_assert_eq!(changed, reducer.snapshot() != &before, "{:?}", step);
            let fact = &reducer.snapshot().addresses;
            prop_assert_eq!(fact.value().is_some(), model.ever);
            let known = matches!(fact, Fact::Known { .. });
            prop_assert_eq!(known, model.known);
            if let Some(held) = fact.value() {
                prop_assert_eq!(&**held, &model.held, "{:?}", step);
            }
        }
    }

    /// Whatever happens to links and addresses, an address of a link that is not reported is never held.
    #[test]
    fn addresses_are_of_reported_links_only(
        steps in prop::collection::vec((0..6u8, 0..4u8, 0..4u8), 0..80),
    ) {
        let mut reducer = reducer();
        subscribed(&mut reducer, ResourceType::Link);
        feed(&mut reducer, Event::Bootstrapped(ResourceType::Link));
        for (step, link, value) in steps {
            let name = format!("eth{link}");
            let event = match step {
                0 => put_link(&name, physical(if value == 0 { "veth" } else { "" })),
                1 => removed(ResourceType::Link, &name),
                2 => Event::Subscribed {
                    resource_type: ResourceType::Address,
                    links: reducer.selected().cloned().unwrap_or_default(),
                },
                3 => Event::Bootstrapped(ResourceType::Address),
                _ => put_address(&format!("{name}/{value}"), address(&name, value)),
            };
            feed(&mut reducer, event);
            let selected = reducer.selected().cloned().unwrap_or_default();
            if let Some(held) = reducer.snapshot().addresses.value() {
                for address in held.values() {
                    prop_assert!(selected.contains(&address.link_name));
                }
            }
        }
    }
}

#[test]
fn a_clock_that_jumps_decides_nothing() {
    let mut reducer = reducer();
    let steps = [
        (at(1_000_000), put_link("eth0", physical(""))),
        (at(0), Event::Bootstrapped(ResourceType::Link)),
        (at(4_000_000_000), lost(ResourceType::Link)),
    ];
    subscribed(&mut reducer, ResourceType::Link);
    for (now, event) in steps {
        reducer.apply(event, now);
    }
    assert!(matches!(reducer.snapshot().links, Fact::Stale { since, .. } if since == at(4_000_000_000)));
    // Back before the fact was lost, and before the epoch.
    let long_ago = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    for now in [at(5), long_ago] {
        subscribed(&mut reducer, ResourceType::Link);
        reducer.apply(put_link("eth0", physical("")), now);
        assert!(
            reducer.apply(Event::Bootstrapped(ResourceType::Link), now),
            "known again"
        );
        assert!(matches!(&reducer.snapshot().links, Fact::Known { value } if value.len() == 1));
        assert!(reducer.apply(lost(ResourceType::Link), now), "lost again");
        assert!(matches!(reducer.snapshot().links, Fact::Stale { since, .. } if since == now));
    }
}
