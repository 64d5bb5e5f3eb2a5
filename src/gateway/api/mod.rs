//! What the gateway answers itself: calls, work, status, health.

mod book;
mod call;
mod health;
mod page;
mod route;
mod shown;
mod work;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

pub(super) use self::book::Book;
use self::route::{Route, missing};
use super::access::{self, Identity, Page};
use super::desk::{Ask, Caller};
use super::door::Place;
use super::response::Response;
use super::services::Services;
use super::settings::Settings;
use crate::net::{Handle, Length, RequestHead};
use crate::pages::{Method, Right};
use crate::protocol::RequestId;
use crate::proxy::{Site, Sites};

pub use self::route::RESERVED;

/// Answers requests as the settings say.
pub(super) struct Api {
    settings: Arc<Settings>,
    services: Arc<Services>,
    sites: Arc<Sites>,
}

/// What is done with a request whose head is there.
pub(super) enum Plan {
    /// It is answered, whatever its body is.
    Answer(Response),
    /// Its body is read, and then it is served.
    Collect(Admitted),
    /// An upstream answers.
    Proxy(Proxied),
}

/// What was found out about a request by its head. That is done once: the body is served with it.
pub(super) struct Admitted {
    route: Route,
    identity: Identity,
    /// So many bytes the body may have.
    pub(super) limit: usize,
}

/// A request for an upstream.
pub(super) struct Proxied {
    pub(super) site: Arc<Site>,
    /// Whether the peer can be believed what it says of others.
    pub(super) is_trusted: bool,
    pub(super) was_for_us: bool,
    pub(super) user: Option<String>,
}

/// Where a request came from.
#[derive(Clone, Copy)]
pub(super) struct From<'a> {
    /// The connection.
    pub(super) to: Handle,
    /// Which of its requests it is.
    pub(super) serial: u32,
    /// By which it can be found.
    pub(super) id: &'a str,
}

/// What was done with a request.
pub(super) enum Served {
    /// This is the answer.
    Now(Response),
    /// It comes by the mailbox.
    Later(Later),
}

/// An answer that is to come.
pub(super) struct Later {
    /// The place of whoever waits for it.
    pub(super) place: Place,
    /// When what it comes from must have started.
    pub(super) start_by: Option<Instant>,
}

/// So long may an id be that a client gives its request.
const MOST_ID: usize = 128;

impl Api {
    pub(super) fn new(settings: Arc<Settings>, services: Arc<Services>, sites: Arc<Sites>) -> Self {
        Api { settings, services, sites }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// By which the request can be found: what the client says, or one of our own.
    pub(super) fn request_id(&self, head: &RequestHead<'_>) -> Box<str> {
        let given = head.header("x-request-id").filter(|id| id.len() <= MOST_ID);
        match given.and_then(RequestId::from_text) {
            Some(RequestId::Text(id)) => id,
            _ => self.services.ids.next(),
        }
    }

    /// The origin of the page that asks, if it may read the answer.
    pub(super) fn allowed_origin<'a>(&self, head: &RequestHead<'a>) -> Option<&'a str> {
        if self.settings.origins.is_empty() {
            return None;
        }
        head.header("origin").filter(|origin| access::is_listed(&self.settings.origins, origin))
    }

    /// Whether a request may come from somebody who has too many connections already: who looks after the machine has seats of their own.
    pub(super) fn has_own_seats(&self, head: &RequestHead<'_>) -> bool {
        let route = self.route(head);
        let is_of_watchers = matches!(route, Some(Route::Live | Route::Ready | Route::Metrics));
        is_of_watchers && self.site(head, route.as_ref()).is_none()
    }

    /// What is done with a request before its body is there.
    pub(super) fn plan(&self, head: &RequestHead<'_>, peer: Option<IpAddr>) -> Plan {
        let route = self.route(head);
        if let Some(site) = self.site(head, route.as_ref()) {
            return self.proxy(site, head, peer);
        }
        // Whoever looks after the machine has no token.
        match route {
            Some(Route::Live) => return Plan::Answer(self.live()),
            Some(Route::Ready) => return Plan::Answer(self.ready()),
            _ => {}
        }
        let identity = match self.admit(head) {
            Ok(identity) => identity,
            Err(response) => return Plan::Answer(response),
        };
        let Some(route) = route else {
            return Plan::Answer(Response::error(404, "not found: no page and no function has this path"));
        };
        let book = &self.services.book;
        let method = Method::of(head.method);
        if method == Some(Method::Options) {
            return Plan::Answer(self.options(head, &route));
        }
        let Some((method, needed)) = method.and_then(|method| Some((method, route.takes(method, book)?))) else {
            let response = Response::error(405, "method not allowed: see the Allow header");
            return Plan::Answer(response.with("Allow", route.allow(book)));
        };
        if let Some(right) = missing(needed, identity.may) {
            return Plan::Answer(not_allowed(&identity, right));
        }
        match self.acts(&route, head) {
            Some(func) if method != Method::Post => Plan::Answer(page::instead_of_run(head, func)),
            _ => Plan::Collect(Admitted { route, identity, limit: self.settings.limits.max_request }),
        }
    }

    fn route(&self, head: &RequestHead<'_>) -> Option<Route> {
        Route::of(head.path(), &self.services.book)
    }

    /// The site that a request is for. What is answered here goes before a site, unless that has a host or a path of its own under `/api`.
    fn site(&self, head: &RequestHead<'_>, route: Option<&Route>) -> Option<&Arc<Site>> {
        let site = self.sites.find(head.host, head.path())?;
        let is_nearer = site.terms.host.is_some() || site.terms.path.trim_end_matches('/').len() > "/api".len();
        (is_nearer || matches!(route, None | Some(Route::Root))).then_some(site)
    }

    fn proxy(&self, site: &Arc<Site>, head: &RequestHead<'_>, peer: Option<IpAddr>) -> Plan {
        if let Some(reason) = self.doubt(site, head) {
            return Plan::Answer(Response::error(400, reason));
        }
        if let Err(response) = self.may_use(site, head) {
            return Plan::Answer(response);
        }
        let tokens = &self.settings.tokens;
        let is_for_all = site.terms.is_public || tokens.is_empty();
        let identity = match is_for_all {
            true => Some(Identity::default()),
            false => access::identify(tokens, head.header("authorization")),
        };
        let Some(identity) = identity else { return Plan::Answer(unknown()) };
        if !identity.may.has(Right::Call) {
            return Plan::Answer(not_allowed(&identity, Right::Call));
        }
        // A token of ours is not told to an upstream, also where it was not asked for.
        let is_token = |header| !tokens.is_empty() && access::identify(tokens, Some(header)).is_some();
        let was_for_us = !is_for_all || head.all("authorization").any(is_token);
        if let (Length::Known(length), Some(most)) = (head.length, site.terms.max_request)
            && length > most
        {
            return Plan::Answer(Response::error(413, format!("the body has more than {most} bytes")));
        }
        let is_trusted = peer.is_none_or(|peer| self.settings.trusted.iter().any(|network| network.contains(peer)));
        Plan::Proxy(Proxied { site: Arc::clone(site), is_trusted, was_for_us, user: identity.user })
    }

    /// Whether pages of others stay out of a site that is not for everybody: a page that reads it under a name of its own, or one that
    /// makes a browser act there with the token that it remembers.
    fn may_use(&self, site: &Arc<Site>, head: &RequestHead<'_>) -> Result<(), Response> {
        if site.terms.is_public {
            return Ok(());
        }
        if site.terms.host.is_none() {
            self.is_called_so(head)?;
        }
        // Links lead from page to page; what only reads cannot be read by the other one.
        let only_reads = matches!(head.method, "GET" | "HEAD" | "OPTIONS") && !head.wants_upgrade;
        if only_reads { Ok(()) } else { self.may_page_ask(head) }
    }

    /// Why it is not sure that `site` and its upstream read the path of `head` as it was judged.
    fn doubt(&self, site: &Arc<Site>, head: &RequestHead<'_>) -> Option<String> {
        if let Some(what) = head.path.doubt {
            return Some(format!("the path has {what} in it, which can be read in two ways"));
        }
        if !head.path.has_encoded_slash {
            return None;
        }
        if !site.terms.takes_encoded_slashes {
            let reason = "the path has an encoded slash in it, which can be read in two ways";
            return Some(format!("{reason}; encoded_slashes of the site can allow it"));
        }
        // An upstream that decodes it must not find itself under the rules of another site.
        let decoded = head.path().replace("%2F", "/");
        let other = self.sites.find(head.host, &decoded).is_none_or(|other| !Arc::ptr_eq(other, site));
        other.then(|| "the path is that of another site if its slashes are decoded".to_owned())
    }

    /// Lets the function `name` answer a request for which there is no upstream.
    pub(super) fn stand_in(&self, name: &str, head: &RequestHead<'_>, from: From<'_>) -> Served {
        Asking { api: self, head, body: &[], identity: Identity::default(), from }.stand_in(name)
    }

    /// Serves a request that was admitted and whose body is there.
    pub(super) fn serve(&self, admitted: Admitted, head: &RequestHead<'_>, body: &[u8], from: From<'_>) -> Served {
        let Admitted { route, identity, limit: _ } = admitted;
        let asking = Asking { api: self, head, body, identity, from };
        let served = match route {
            Route::Call(func) => asking.call(&func),
            Route::General => asking.general(),
            Route::Work => asking.work(),
            Route::Status(id) => asking.status(&id),
            Route::Page(found) => asking.page(found),
            Route::Metrics => asking.metrics(),
            Route::Root => Ok(Served::Now(Response::text(200, "OK\n"))),
            Route::Live => Ok(Served::Now(self.live())),
            Route::Ready => Ok(Served::Now(self.ready())),
        };
        served.unwrap_or_else(Served::Now)
    }

    /// The function that `route` names, if it acts, and a page may have made a browser ask for it.
    fn acts<'a>(&self, route: &'a Route, head: &RequestHead<'_>) -> Option<&'a str> {
        let Route::Call(func) = route else { return None };
        if !page::may_be_of_a_page(head) {
            return None;
        }
        let rules = self.services.dispatcher.rules();
        let function = rules.functions.get(func)?;
        (!function.terms.is_safe()).then_some(func)
    }

    /// Who asks; the error is the answer to somebody who may not.
    fn admit(&self, head: &RequestHead<'_>) -> Result<Identity, Response> {
        let settings = &self.settings;
        self.is_called_so(head)?;
        self.may_page_ask(head)?;
        if head.method == "OPTIONS" {
            // A browser asks without a token what it may ask with one.
            return Ok(Identity::default());
        }
        access::identify(&settings.tokens, head.header("authorization")).ok_or_else(unknown)
    }

    /// Whether the gateway is called as the client says: a name that somebody else made point here would let pages of that name read
    /// answers. With tokens such a page has none to send.
    fn is_called_so(&self, head: &RequestHead<'_>) -> Result<(), Response> {
        let host = head.host.unwrap_or_default();
        if !self.settings.tokens.is_empty() || access::is_own_host(host, &self.settings.hosts) {
            return Ok(());
        }
        let reason = "unknown host: add it to hosts in [http]";
        Err(Response::error(421, format!("{host}: {reason}")))
    }

    /// Whether the page that has made a browser ask may do that.
    fn may_page_ask(&self, head: &RequestHead<'_>) -> Result<(), Response> {
        let page = Page::of(head);
        if !page.is_foreign(&self.settings.origins) {
            return Ok(());
        }
        let reason = "pages of this origin may not ask; origins in [http] can name it";
        Err(Response::error(403, format!("{}: {reason}", page.origin.unwrap_or("another site"))))
    }

    fn options(&self, head: &RequestHead<'_>, route: &Route) -> Response {
        let allow = route.allow(&self.services.book);
        let response = Response::new(204, super::response::Body::Empty).with("Allow", &*allow);
        if self.allowed_origin(head).is_none() || head.header("access-control-request-method").is_none() {
            return response;
        }
        response
            .with("Access-Control-Allow-Methods", &*allow)
            .with(
                "Access-Control-Allow-Headers",
                "Authorization, Content-Type, Idempotency-Key, X-Request-Id, X-Request-Timeout, X-Request-Deadline",
            )
            .with("Access-Control-Max-Age", "600")
    }
}

/// One request that is served.
struct Asking<'a> {
    api: &'a Api,
    head: &'a RequestHead<'a>,
    body: &'a [u8],
    identity: Identity,
    from: From<'a>,
}

impl Asking<'_> {
    fn services(&self) -> &Services {
        &self.api.services
    }

    /// A place among those that wait for an answer.
    fn place(&self) -> Result<Place, Response> {
        Place::take(&self.services().waiting, self.api.settings.limits.max_calls)
            .ok_or_else(|| busy("too many calls wait already"))
    }

    /// Lets somebody ask the broker.
    fn ask(&self, ask: Ask) -> Result<Served, Response> {
        self.ask_from(self.place()?, None, ask)
    }

    /// The same from a place that somebody has.
    fn ask_from(&self, place: Place, start_by: Option<Instant>, ask: Ask) -> Result<Served, Response> {
        let caller = Caller {
            mailbox: Arc::clone(&self.services().mailbox),
            to: self.from.to,
            serial: self.from.serial,
            place: place.clone(),
        };
        match self.services().desk.ask(caller, ask) {
            Some(()) => Ok(Served::Later(Later { place, start_by })),
            None => Err(busy("too many requests wait for the queue")),
        }
    }
}

/// Whoever asks has a token that does not let them.
fn not_allowed(identity: &Identity, right: Right) -> Response {
    let name = identity.token.as_deref().unwrap_or_default();
    Response::error(
        403,
        format!("the token {name} may not {right}: may = [\"{right}\"] in [http.tokens.{name}] lets it"),
    )
}

fn unknown() -> Response {
    let reason = "a token is needed: Authorization: Bearer TOKEN";
    Response::error(401, reason).with("WWW-Authenticate", "Basic realm=\"cerbas\", Bearer realm=\"cerbas\"")
}

fn busy(reason: &str) -> Response {
    Response::error(503, reason).with("Retry-After", "1")
}
