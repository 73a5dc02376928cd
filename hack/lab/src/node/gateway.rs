//! What every call passes: it is recorded, refused if that was asked for, checked for its roles, and its reply held
//! while the node is stalled.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Frame;
use tonic::{Code, Status, body::Body, transport::server::UdsConnectInfo};
use tower::{Layer, Service};

use super::{
    access::{self, Roles},
    calls::{CallLog, Caller},
    faults::{Faults, Pass},
    peers::Peers,
};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Puts a [`Gateway`] before a service.
#[derive(Clone)]
pub struct GatewayLayer {
    /// Where calls are recorded.
    pub calls: Arc<CallLog>,
    /// What goes wrong.
    pub faults: Arc<Faults>,
    /// Who may call at all.
    pub peers: Arc<Peers>,
}

impl<S> Layer<S> for GatewayLayer {
    type Service = Gateway<S>;

    fn layer(&self, inner: S) -> Gateway<S> {
        Gateway {
            inner,
            calls: Arc::clone(&self.calls),
            faults: Arc::clone(&self.faults),
            peers: Arc::clone(&self.peers),
        }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Gateway<S> {
    inner: S,
    calls: Arc<CallLog>,
    faults: Arc<Faults>,
    peers: Arc<Peers>,
}

impl<S> Service<Request<Body>> for Gateway<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let roles = Roles::of(request.headers());
        let path = request.uri().path().to_owned();
        let caller = caller(&request, &roles);
        let (peers, pid) = (Arc::clone(&self.peers), caller.pid);
        let record = self.calls.begin(&path, caller);
        let method = path.rsplit('/').next().unwrap_or_default();
        let verdict = match self.faults.refusal(method) {
            Some(refusal) => Err(refusal),
            None => access::authorize(&path, &roles),
        };
        request.extensions_mut().insert(roles);
        request.extensions_mut().insert(record.clone());
        let pass = self.faults.gate();
        // The clone that was polled ready makes the call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            // machined knows the process before it looks at the roles.
            let verdict = peers.authorize(pid).await.and(verdict);
            let response = match verdict {
                Ok(()) => inner.call(request).await?,
                Err(refusal) => refusal.into_http(),
            };
            let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
            record.end(code);
            pass.clone().opened().await;
            Ok(response.map(|body| Body::new(Held::new(body, pass))))
        })
    }
}

fn caller(request: &Request<Body>, roles: &Roles) -> Caller {
    let peer = request
        .extensions()
        .get::<UdsConnectInfo>()
        .and_then(|info| info.peer_cred);
    let mut nodes = access::values(request.headers(), "node");
    nodes.extend(access::values(request.headers(), "nodes"));
    Caller {
        roles: roles.names().to_vec(),
        nodes,
        pid: peer.and_then(|peer| peer.pid()),
        uid: peer.map(|peer| peer.uid()),
    }
}

/// A body that waits at the gate before each frame.
struct Held {
    body: Body,
    pass: Pass,
    waiting: Option<Boxed<()>>,
}

impl Held {
    fn new(body: Body, pass: Pass) -> Self {
        Self {
            body,
            pass,
            waiting: None,
        }
    }
}

impl http_body::Body for Held {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        loop {
            if let Some(waiting) = self.waiting.as_mut() {
                std::task::ready!(waiting.as_mut().poll(context));
                self.waiting = None;
            }
            if self.pass.is_open() {
                return Pin::new(&mut self.body).poll_frame(context);
            }
            self.waiting = Some(Box::pin(self.pass.clone().opened()));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
