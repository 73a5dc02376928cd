//! Sequences, as a client follows them by their events.

use talos_vmtoolsd::pb::{
    common,
    machine::{self as pb, EventsRequest, PhaseEvent, SequenceEvent, sequence_event::Action},
};

use super::*;

const OPERATOR: &[&str] = &["os:operator"];

async fn events(lab: &Lab) -> Streaming<pb::Event> {
    let request = read(EventsRequest::default());
    let mut events = soon(lab.machine().events(request)).await.unwrap().into_inner();
    let hello = soon(events.message()).await.unwrap().unwrap();
    assert_eq!(hello.data, Some(pb::EventPayload::default()));
    events
}

async fn shutdown(lab: &Lab, force: bool) -> String {
    let request = with_roles(OPERATOR, ShutdownRequest { force });
    let mut reply = soon(lab.machine().shutdown(request)).await.unwrap().into_inner();
    reply.messages.remove(0).actor_id
}

async fn reboot(lab: &Lab) -> String {
    let request = with_roles(OPERATOR, RebootRequest { mode: 0 });
    let mut reply = soon(lab.machine().reboot(request)).await.unwrap().into_inner();
    reply.messages.remove(0).actor_id
}

/// Steps of sequences until one stops or is not begun, and the phases in between.
async fn story(events: &mut Streaming<pb::Event>) -> Vec<(String, String)> {
    let mut told = Vec::new();
    while let Some(event) = soon(events.message()).await.unwrap() {
        let data = event.data.unwrap();
        let step = match data.type_url.as_str() {
            "talos/runtime/machine.SequenceEvent" => {
                let sequence = SequenceEvent::decode(&*data.value).unwrap();
                match sequence.error {
                    Some(error) => common::Code::try_from(error.code)
                        .unwrap()
                        .as_str_name()
                        .to_owned(),
                    None => format!("{} {}", sequence.sequence, sequence.action().as_str_name()),
                }
            }
            "talos/runtime/machine.PhaseEvent" => {
                let phase = PhaseEvent::decode(&*data.value).unwrap();
                if phase.action == i32::from(pb::phase_event::Action::Stop) {
                    continue;
                }
                phase.phase
            }
            _ => continue,
        };
        let over = step == "LOCKED" || step.ends_with(Action::Stop.as_str_name());
        told.push((event.actor_id, step));
        if over {
            break;
        }
    }
    told
}

fn steps(told: &[(String, String)]) -> Vec<&str> {
    told.iter().map(|(_, step)| step.as_str()).collect()
}

#[tokio::test]
async fn a_shutdown_drains_and_ends_with_the_socket() {
    let lab = lab(Release::V1_14).await;
    lab.apply("power run drain 50ms services 50ms").await;
    let mut events = events(&lab).await;
    let actor = shutdown(&lab, false).await;
    let told = story(&mut events).await;
    assert_eq!(
        steps(&told),
        [
            "shutdown START",
            "storeShutdown",
            "drain",
            "cleanup",
            "stopServices",
            "stopEverything",
            "shutdown STOP"
        ]
    );
    assert!(told.iter().all(|(by, _)| *by == actor), "{told:?}");
    assert_eq!(
        soon(events.message()).await.unwrap(),
        None,
        "the stream ends well"
    );
    let gone = soon(async {
        while lab.socket.exists() {
            tokio::task::yield_now().await;
        }
    });
    gone.await;
}

#[tokio::test]
async fn force_skips_the_drain_and_takes_over() {
    let lab = lab(Release::V1_14).await;
    lab.apply("power run drain 60s services 50ms").await;
    let mut events = events(&lab).await;
    let first = shutdown(&lab, false).await;
    let second = shutdown(&lab, true).await;
    let mut told = story(&mut events).await;
    told.extend(story(&mut events).await);
    let of = |actor: &str| -> Vec<_> {
        let of_actor = told.iter().filter(|(by, _)| by == actor);
        of_actor.map(|(_, step)| step.as_str()).collect()
    };
    assert!(of(&first).contains(&"CANCELED"), "{told:?}");
    assert!(!of(&second).contains(&"drain"), "{told:?}");
    assert!(of(&second).contains(&"stopEverything"), "{told:?}");
}

#[tokio::test]
async fn a_locked_reboot_names_no_actor() {
    let lab = lab(Release::V1_12).await;
    lab.apply("power run drain 60s").await;
    for stage in ["upgrading", "maintenance"] {
        lab.apply(&format!("stage set {stage}")).await;
        let mut events = events(&lab).await;
        reboot(&lab).await;
        let told = story(&mut events).await;
        assert_eq!(told, [(String::new(), "LOCKED".to_owned())], "{stage}");
    }
    lab.apply("stage set running").await;
    let mut events = events(&lab).await;
    let down = shutdown(&lab, false).await;
    reboot(&lab).await;
    let told = story(&mut events).await;
    assert_eq!(told.last().unwrap().1, "LOCKED");
    assert_eq!(told[0], (down, "shutdown START".to_owned()));
}

#[tokio::test]
async fn a_failure_is_told_before_the_node_goes_down() {
    let lab = lab(Release::V1_14).await;
    lab.apply("power run drain 0s services 50ms fatal").await;
    let mut events = events(&lab).await;
    shutdown(&lab, false).await;
    let told = story(&mut events).await;
    assert_eq!(
        steps(&told)[3..],
        ["cleanup", "FATAL", "shutdown STOP"],
        "{told:?}"
    );
}

#[tokio::test]
async fn an_old_talos_crashes_without_configuration_unless_it_is_forced() {
    for (version, force, crashes) in [
        ("v1.7.5", false, true),
        ("v1.7.5", true, false),
        ("v1.7.6", false, false),
    ] {
        let lab = lab(Release::V1_10).await;
        lab.apply("power run services 60s").await;
        lab.apply("maintenance").await;
        lab.apply(&format!("report {version}")).await;
        let mut events = events(&lab).await;
        shutdown(&lab, force).await;
        let first = soon(events.message()).await;
        assert_eq!(first.ok().flatten().is_none(), crashes, "{version} {force}");
    }
}

#[tokio::test]
async fn maintenance_has_no_configuration() {
    let lab = lab(Release::V1_14).await;
    lab.apply("maintenance").await;
    let missing = get(&lab, network::NODE_ADDRESSES, "routed-no-k8s").await;
    assert_eq!(code(missing).0, Code::NotFound);
    let state = lab.apply("state").await.to_string();
    assert!(state.contains("maintenance"), "{state}");
    for absent in [
        "Nodenames.kubernetes",
        "NodeStatuses.kubernetes",
        "KubeletSpecs.kubernetes",
        "Infos.cluster",
        "-no-k8s",
        "-only-k8s",
    ] {
        assert!(!state.contains(absent), "{absent}: {state}");
    }
    // What the kernel and the boot know is there all the same.
    for present in ["LinkStatuses", "AddressStatuses", "\"routed\"", "BootIDs"] {
        assert!(state.contains(present), "{present}: {state}");
    }
}
