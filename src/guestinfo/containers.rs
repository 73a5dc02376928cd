//! Which images the node's pods run, for those who keep an inventory by vCenter.
//!
//! ```text
//!  Containers call ──images that run──> settle ──> JSON ──> info-set guestinfo.vmtools.containerinfo
//! ```
//!
//! open-vm-tools asks containerd and looks into /proc. From Talos 1.14 on pods can run in a mount and PID namespace of
//! their own, where neither is seen from a service; machined asks the runtime on their side. The list names workloads
//! to whoever may read the machine, so it is off unless it is asked for, and the host can switch it off
//! (`Set_Option enableAppInfo 0`).

#![forbid(unsafe_code)]

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tracing::{debug, info};
use tracing_subscriber::fmt::{
    format,
    time::{FormatTime, SystemTime},
};

use super::control::Control;
use crate::{jitter::jittered, talos::Client};

/// Longest text, in bytes; open-vm-tools stops there too (containerInfo.c).
const MAX_LIST: usize = 63 * 1024;
/// Most images (containerInfo.c).
const MAX_IMAGES: usize = 256;
/// Pause behind the first look, and behind the first that fails. Pods start with the node; so each pause is twice the
/// last one.
const FIRST_PERIOD: Duration = Duration::from_secs(5);
/// What it grows to.
const PERIOD: Duration = Duration::from_secs(900);
/// Share by which it varies.
const JITTER: f64 = 0.2;

/// The list as it is sent; none before Talos has told.
pub type Containers = Option<Arc<str>>;

/// The list in the form of open-vm-tools (containerInfo.c), with as many images as fit.
fn json(images: &BTreeSet<String>, update: u64, time: &str) -> String {
    let mut list = format!(
        r#"{{"version":"1","updateCounter":{update},"publishTime":"{time}","containerinfo":{{"k8s.io": ["#
    );
    const END: &str = "]}}";
    let mut separator = "";
    for image in images.iter().take(MAX_IMAGES) {
        let item = format!(
            r#"{separator}{{"i":{}}}"#,
            serde_json::Value::from(image.as_str())
        );
        if list.len() + item.len() + END.len() > MAX_LIST {
            break;
        }
        list.push_str(&item);
        separator = ",";
    }
    list.push_str(END);
    list
}

/// The images of the last list, and how many lists there were.
#[derive(Debug, Default)]
struct Told {
    images: Option<BTreeSet<String>>,
    updates: u64,
}

impl Told {
    /// A new list, unless it would name the same images.
    fn settle(&mut self, images: BTreeSet<String>, time: &str) -> Option<String> {
        if self.images.as_ref() == Some(&images) {
            return None;
        }
        self.updates += 1;
        let list = json(&images, self.updates, time);
        self.images = Some(images);
        Some(list)
    }
}

/// The list of one look, for people.
pub fn once(images: &BTreeSet<String>) -> Containers {
    Some(json(images, 1, &now()).into())
}

/// Asks Talos for the images, time and again, as long as somebody wants them. Does not while publishing is suspended.
pub async fn follow(client: Arc<Client>, control: Control, list: watch::Sender<Containers>) {
    let images = move || {
        let client = Arc::clone(&client);
        async move { client.containers().await }
    };
    look_at(images, control, list).await;
}

/// [`follow`], with the call as a function.
async fn look_at<F: Future<Output = Result<BTreeSet<String>, E>>, E: fmt::Display>(
    images: impl Fn() -> F,
    control: Control,
    list: watch::Sender<Containers>,
) {
    let mut told = Told::default();
    let mut random = fastrand::Rng::new();
    let mut silent = false;
    let mut period = FIRST_PERIOD;
    let mut wants = control.subscribe();
    loop {
        let wanted = wants.wait_for(|wants| !wants.suspended && !wants.containers_off);
        if wanted.await.is_err() {
            return;
        }
        match images().await {
            Ok(images) => {
                if std::mem::take(&mut silent) {
                    info!(feature = "guestinfo", "Talos tells the containers again");
                }
                if let Some(fresh) = told.settle(images, &now()) {
                    list.send_replace(Some(fresh.into()));
                }
            }
            Err(error) if silent => debug!(feature = "guestinfo", err = %error, "no containers"),
            Err(error) => {
                silent = true;
                // The runtime restarts, mostly; it is not to cost a quarter of an hour.
                period = FIRST_PERIOD;
                info!(feature = "guestinfo", reason = %error, "Talos does not tell the containers");
            }
        }
        if list.is_closed() {
            return;
        }
        sleep(jittered(&mut random, period, JITTER)).await;
        period = (period * 2).min(PERIOD);
    }
}

/// The time of day, as RFC 3339 writes it.
fn now() -> String {
    let mut time = String::new();
    // Writing to a String cannot fail.
    let _ = SystemTime.format_time(&mut format::Writer::new(&mut time));
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The worked example (containerInfo.c).
    #[test]
    fn the_form_of_open_vm_tools() {
        let two = images(&["registry.k8s.io/pause:3.10", "registry.k8s.io/kube-proxy:v1.33.0"]);
        assert_eq!(
            json(&two, 1, "2026-08-21T10:00:00.123Z"),
            concat!(
                r#"{"version":"1","updateCounter":1,"publishTime":"2026-08-21T10:00:00.123Z","#,
                r#""containerinfo":{"k8s.io": [{"i":"registry.k8s.io/kube-proxy:v1.33.0"},"#,
                r#"{"i":"registry.k8s.io/pause:3.10"}]}}"#
            )
        );
        let none: serde_json::Value = serde_json::from_str(&json(&images(&[]), 7, "now")).unwrap();
        assert_eq!(none["containerinfo"]["k8s.io"], serde_json::json!([]));
    }

    #[test]
    fn a_list_is_bounded_and_stays_json() {
        let many: BTreeSet<String> = (0..1000).map(|n| format!("registry.example.org/{n}")).collect();
        let long: BTreeSet<String> = (0..200).map(|n| format!("{n}{}", "\"\\\n".repeat(300))).collect();
        for (images, most) in [(many, MAX_IMAGES), (long, 199)] {
            let text = json(&images, u64::MAX, "now");
            assert!(text.len() <= MAX_LIST, "{}", text.len());
            let list: serde_json::Value = serde_json::from_str(&text).unwrap();
            let told = list["containerinfo"]["k8s.io"].as_array().unwrap().len();
            assert!((30..=most).contains(&told), "{told}");
        }
    }

    #[test]
    fn the_same_images_are_no_new_list() {
        let mut told = Told::default();
        assert!(
            told.settle(images(&["a"]), "1")
                .unwrap()
                .contains(r#""updateCounter":1"#)
        );
        assert_eq!(told.settle(images(&["a"]), "2"), None);
        assert!(
            told.settle(images(&[]), "3")
                .unwrap()
                .contains(r#""updateCounter":2"#)
        );
    }

    #[test]
    fn the_time_is_of_today() {
        let time = now();
        assert!(time.ends_with('Z') && time.starts_with("20"), "{time}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_is_soon_repeated() {
        let start = tokio::time::Instant::now();
        let moments = std::cell::RefCell::new(Vec::new());
        let (sender, _list) = watch::channel(None);
        // A runtime that restarts after hours.
        let failing = Duration::from_secs(4 * 3600)..Duration::from_secs(5 * 3600);
        let look = || {
            let at = start.elapsed();
            moments.borrow_mut().push(at);
            let answer = if failing.contains(&at) {
                Err("restarting")
            } else {
                Ok(images(&["a"]))
            };
            std::future::ready(answer)
        };
        tokio::select! {
            () = look_at(look, Control::default(), sender) => {}
            () = sleep(Duration::from_secs(8 * 3600)) => {}
        }
        let moments = moments.into_inner();
        let first = moments.iter().position(|at| failing.contains(at)).unwrap();
        let soon = moments[first + 1] - moments[first];
        assert!(soon <= Duration::from_secs(6), "{soon:?}");
        // And it does not become a habit.
        assert!((30..=65).contains(&moments.len()), "{}", moments.len());
    }
}
