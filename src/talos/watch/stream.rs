//! One watch, kept up for as long as its connection lasts.

#![forbid(unsafe_code)]

use std::{collections::BTreeSet, error::Error as _, future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tonic::{Code, Status, Streaming};

use super::{
    event::{self, Meaning},
    pause::Pause,
};
use crate::{
    pb::cosi::resource::WatchResponse,
    talos::{
        client::{self, Client, Settings},
        reducer::Event,
        resource::ResourceType,
    },
};

/// Longest pause before another attempt at a resource that the role may not read. That does not change by itself, and
/// each attempt is a line in Talos's log.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

const REPLACED: &str = "the connection was replaced";

/// The links that are reported, as the reducer knows them.
pub type Selected = watch::Receiver<Option<Arc<BTreeSet<String>>>>;

/// Why one subscription came to its end.
enum End {
    /// Other links are selected now: subscribe again, at once.
    Reselected,
    /// This Talos has no such resource.
    Unsupported(String),
    /// This watch failed, the connection did not.
    Failed(Status),
    /// The connection failed.
    Disconnected(String),
}

/// Sends what happens to the resources of one type; gives why the connection is lost.
pub struct Stream {
    pub resource_type: ResourceType,
    pub client: Client,
    /// [`Client::opened`] when this connection was answered.
    pub connection: u64,
    pub settings: Settings,
    pub selected: Selected,
    pub events: mpsc::Sender<Event>,
}

impl Stream {
    /// Watches until the connection is lost.
    pub async fn run(mut self) -> String {
        let resource_type = self.resource_type;
        let mut pause = Pause::new(self.settings.first_pause, self.settings.longest_pause);
        loop {
            let begun = Instant::now();
            match self.subscription().await {
                End::Reselected => {}
                End::Disconnected(reason) => return reason,
                End::Unsupported(reason) => {
                    self.send(Event::Refused {
                        resource_type,
                        reason,
                    })
                    .await;
                    return pending().await;
                }
                End::Failed(status) => {
                    // A watch that fails again at once is no better than none.
                    if begun.elapsed() >= self.settings.longest_pause {
                        pause.reset();
                    }
                    if status.code() == Code::PermissionDenied {
                        pause.set_longest(REFUSED_PAUSE);
                    } else {
                        pause.set_longest(self.settings.longest_pause);
                    }
                    let reason = client::describe(&status);
                    self.send(Event::Lost {
                        resource_type,
                        reason,
                    })
                    .await;
                    tokio::time::sleep(pause.draw()).await;
                }
            }
        }
    }

    async fn subscription(&mut self) -> End {
        let links = if self.resource_type.follows_selection() {
            self.selection().await
        } else {
            Arc::default()
        };
        // No link, no address: there is nothing to ask for.
        if self.resource_type.follows_selection() && links.is_empty() {
            self.send(Event::Subscribed {
                resource_type: self.resource_type,
                links,
            })
            .await;
            self.send(Event::Bootstrapped(self.resource_type)).await;
            return reselected(&mut self.selected).await;
        }
        match self.client.watch(self.resource_type.request(&links)).await {
            Ok(_) if self.is_replaced() => End::Disconnected(REPLACED.into()),
            Ok(stream) => {
                self.send(Event::Subscribed {
                    resource_type: self.resource_type,
                    links,
                })
                .await;
                self.read(stream).await
            }
            Err(status) => self.judge(status).await,
        }
    }

    /// Reads events until something ends the subscription.
    async fn read(&mut self, mut stream: Streaming<WatchResponse>) -> End {
        let resource_type = self.resource_type;
        let deadline = self.client.deadline(&client::WATCH);
        let mut selected = self.selected.clone();
        let reselected = async {
            if resource_type.follows_selection() {
                reselected(&mut selected).await
            } else {
                pending().await
            }
        };
        tokio::pin!(reselected);
        let mut complete = false;
        loop {
            let due = (!complete).then_some(deadline);
            let message = tokio::select! {
                biased;
                end = &mut reselected => return end,
                message = next(&mut stream, due) => message,
            };
            let response = match message {
                Ok(Some(response)) => response,
                Ok(None) => return self.judge(Status::unavailable("the watch ended")).await,
                Err(status) => return self.judge(status).await,
            };
            for event in response.event {
                match event::read(resource_type, event) {
                    Meaning::Event(event) => {
                        let bootstrapped = matches!(event, Event::Bootstrapped(_));
                        self.send(event).await;
                        if !complete && (bootstrapped || !resource_type.is_bootstrapped()) {
                            complete = true;
                            if !bootstrapped {
                                self.send(Event::Bootstrapped(resource_type)).await;
                            }
                        }
                    }
                    Meaning::Errored(reason) => return End::Failed(Status::aborted(reason)),
                    Meaning::Nothing => {}
                }
            }
        }
    }

    /// Tells a failure of the connection from one of this watch alone.
    async fn judge(&self, status: Status) -> End {
        match status.code() {
            // Raised here, not by Talos: the connection broke.
            _ if status.source().is_some() => End::Disconnected(client::describe(&status)),
            // An unknown type is refused like a forbidden one (internal/app/resources/access.go); the text differs.
            Code::PermissionDenied if status.message().contains("is not supported") => {
                End::Unsupported(status.message().to_owned())
            }
            Code::Unimplemented => End::Unsupported(client::describe(&status)),
            // Is it this watch that hangs, or everything? A stopping Talos ends its streams in good order, too.
            Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled => match self.client.version().await
            {
                Ok(_) if self.is_replaced() => End::Disconnected(REPLACED.into()),
                Ok(_) => End::Failed(status),
                Err(error) => End::Disconnected(error.to_string()),
            },
            _ => End::Failed(status),
        }
    }

    /// A call opened another connection: Talos may be another, too, and everything has to be asked for again.
    fn is_replaced(&self) -> bool {
        self.client.opened() != self.connection
    }

    /// The links that are selected now, once the first links are known.
    async fn selection(&mut self) -> Arc<BTreeSet<String>> {
        match self
            .selected
            .wait_for(Option::is_some)
            .await
            .map(|selected| selected.clone())
        {
            Ok(Some(links)) => links,
            // The reducer is gone, and with it everything that this could be for.
            Ok(None) | Err(_) => pending().await,
        }
    }

    /// The receiver goes when the session ends, and this task with it.
    async fn send(&self, event: Event) {
        if self.events.send(event).await.is_err() {
            pending::<()>().await;
        }
    }
}

/// The next message; while one is due, within that time.
async fn next(
    stream: &mut Streaming<WatchResponse>,
    due: Option<Duration>,
) -> Result<Option<WatchResponse>, Status> {
    match due {
        Some(due) => timeout(due, stream.message())
            .await
            .unwrap_or_else(|_| Err(client::overdue(due))),
        None => stream.message().await,
    }
}

async fn reselected(selected: &mut Selected) -> End {
    match selected.changed().await {
        Ok(()) => End::Reselected,
        Err(_) => pending().await,
    }
}
