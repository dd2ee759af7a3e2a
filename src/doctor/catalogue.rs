//! What can be found: for each check its name, its weight, why it matters, and the lines that mend it in each proxy.
//!
//! Numbers such as A34 are those of Portcullis' list of attacks. The lines are those of the files in `deploy/`.

use clap::ValueEnum;
use serde::Serialize;

/// A kind of proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Proxy {
    /// nginx, by `auth_request`.
    Nginx,
    /// Traefik, by `forwardAuth`.
    Traefik,
    /// Caddy, by `forward_auth`.
    Caddy,
    /// Envoy, by `ext_authz`.
    Envoy,
    /// HAProxy, by a Lua action.
    Haproxy,
}

impl Proxy {
    /// All of them.
    pub const ALL: [Proxy; 5] = [Proxy::Nginx, Proxy::Traefik, Proxy::Caddy, Proxy::Envoy, Proxy::Haproxy];

    /// As it writes itself.
    pub fn name(self) -> &'static str {
        match self {
            Proxy::Nginx => "nginx",
            Proxy::Traefik => "Traefik",
            Proxy::Caddy => "Caddy",
            Proxy::Envoy => "Envoy",
            Proxy::Haproxy => "HAProxy",
        }
    }
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something to know; nothing is wrong.
    Note,
    /// Something that is kept shut by one lock instead of two, or that does not work.
    Warning,
    /// A client can get what it must not.
    Finding,
}

/// One thing that can be found.
#[derive(Debug)]
pub struct Check {
    /// Its name.
    pub id: &'static str,
    /// The attacks it opens.
    pub attacks: &'static [&'static str],
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub what: &'static str,
    /// Why that matters.
    pub why: &'static str,
    mend: Mend,
}

impl Check {
    /// The lines that mend it in `proxy`.
    pub fn mend(&self, proxy: Proxy) -> &'static str {
        match proxy {
            Proxy::Nginx => self.mend.nginx,
            Proxy::Traefik => self.mend.traefik,
            Proxy::Caddy => self.mend.caddy,
            Proxy::Envoy => self.mend.envoy,
            Proxy::Haproxy => self.mend.haproxy,
        }
    }
}

#[derive(Debug)]
struct Mend {
    nginx: &'static str,
    traefik: &'static str,
    caddy: &'static str,
    envoy: &'static str,
    haproxy: &'static str,
}

/// Every check.
pub const ALL: [&Check; 27] = [
    &UNASKED,
    &DENIAL_PASSES,
    &FAILS_OPEN,
    &FACTS_MISSING,
    &FACTS_WRONG,
    &FACTS_FORGED,
    &FACTS_FOREIGN,
    &FACTS_DROPPED,
    &HOST_DIFFERS,
    &PATH_DIFFERS,
    &PATH_REWRITTEN,
    &QUERY_LOST,
    &QUERY_LEAKS,
    &BODY_SENT,
    &ADDRESS_FORGED,
    &ADDRESS_APPENDED,
    &ADDRESS_MISSING,
    &ALIAS_TO_GATE,
    &IDENTITY_FORGED,
    &IDENTITY_UNGUARDED,
    &IDENTITY_ALIAS,
    &IDENTITY_LOST,
    &WAY_FORGED,
    &SIGN_IN_LOST,
    &QUESTION_STARVED,
    &ACCEPTS_OTHERS,
    &CREDENTIALS_DOWNSTREAM,
];

/// Requests that the gate is not asked about.
pub const UNASKED: Check = Check {
    id: "unasked",
    attacks: &["A55", "A56", "A101"],
    severity: Severity::Finding,
    what: "requests reached the application and the gate was not asked",
    why: "whatever takes this way needs no session and obeys no rule",
    mend: Mend {
        nginx: "auth_request /.portcullis/authz;   # in every `location` that passes on to the application, or once in `server`",
        traefik: "middlewares: [strip-forged-headers, portcullis]   # in every router of the host",
        caddy: "route { forward_auth … ; reverse_proxy … }   # no `handle`, `@matcher` or `handle_path` around the question",
        envoy: "remove `typed_per_filter_config` with `disabled: true` from this route",
        haproxy: "http-request lua.forward_auth http://portcullis/api/authz/forward-auth abns@portcullis   # no condition but `unless is_portal`",
    },
};

/// A no that passes.
pub const DENIAL_PASSES: Check = Check {
    id: "denial-passes",
    attacks: &["A59", "A101"],
    severity: Severity::Finding,
    what: "the gate said no, and the request reached the application all the same",
    why: "nobody needs to sign in",
    mend: Mend {
        nginx: "error_page 401 = @sign_in;   # no `error_page` that leads to the application, no `satisfy any;`",
        traefik: "middlewares: [strip-forged-headers, portcullis]   # no `errors` middleware before `portcullis`",
        caddy: "forward_auth 127.0.0.1:9091 { … }   # no `handle_response` of your own, no `handle_errors` to the application",
        envoy: "failure_mode_allow: false",
        haproxy: "http-request deny deny_status 503 if !is_portal !{ var(txn.authz_status) -m int 200 }",
    },
};

/// A gate that fails, and a proxy that lets pass.
pub const FAILS_OPEN: Check = Check {
    id: "fails-open",
    attacks: &["A59", "A101"],
    severity: Severity::Finding,
    what: "the gate did not answer, and the request reached the application all the same",
    why: "whoever brings the gate down, or waits until it restarts, is let in everywhere",
    mend: Mend {
        nginx: "remove `error_page 500 …` that leads to the application: without it nginx answers 500",
        traefik: "remove the `errors` middleware or the failover service around `portcullis`: without it Traefik answers 500",
        caddy: "remove `handle_errors` that leads to the application: without it Caddy answers 502",
        envoy: "failure_mode_allow: false",
        haproxy: "http-request deny deny_status 503 if !is_portal !{ var(txn.authz_status) -m int 200 }",
    },
};

/// A question without an object.
pub const FACTS_MISSING: Check = Check {
    id: "facts-missing",
    attacks: &["A34", "A40"],
    severity: Severity::Finding,
    what: "the question does not say what is asked about",
    why: "the gate refuses such a question; and what the proxy does not set, a client may",
    mend: Mend {
        nginx: "proxy_set_header X-Original-Method $request_method;\nproxy_set_header X-Original-URL $scheme://$host$request_uri;",
        traefik: "address: \"http://127.0.0.1:9091/api/authz/forward-auth\"   # Traefik speaks this dialect and no other",
        caddy: "uri /api/authz/forward-auth?   # Caddy speaks this dialect and no other",
        envoy: "headers_to_add: [{key: X-Forwarded-Proto, value: \"%REQ(:SCHEME)%\"}]\npath_prefix: /api/authz/ext-authz/",
        haproxy: "http-request set-header X-Forwarded-Proto https\nhttp-request set-header X-Forwarded-Host %[req.fhdr(host)]\nhttp-request set-header X-Forwarded-URI %[pathq]\nhttp-request set-header X-Forwarded-Method %[method]",
    },
};

/// A question about something else.
pub const FACTS_WRONG: Check = Check {
    id: "facts-wrong",
    attacks: &["A18", "A30"],
    severity: Severity::Finding,
    what: "the question is about another request than the client's",
    why: "rules for methods, hosts and paths decide about something that was not asked for",
    mend: Mend {
        nginx: "proxy_set_header X-Original-Method $request_method;\nproxy_set_header X-Original-URL $scheme://$host$request_uri;",
        traefik: "middlewares: [strip-forged-headers, portcullis, …]   # what rewrites (stripPrefix, replacePath) after `portcullis`",
        caddy: "route { forward_auth … ; uri strip_prefix … ; reverse_proxy … }   # what rewrites after the question",
        envoy: "headers_to_add: [{key: X-Forwarded-Proto, value: \"%REQ(:SCHEME)%\"}]   # rewrite in the route, not in a filter before ext_authz",
        haproxy: "http-request set-header X-Forwarded-URI %[pathq]\nhttp-request set-header X-Forwarded-Method %[method]   # rewrite in the backend, after the question",
    },
};

/// Facts that the endpoint believes, made by the client.
pub const FACTS_FORGED: Check = Check {
    id: "facts-forged",
    attacks: &["A34", "A35"],
    severity: Severity::Finding,
    what: "what the client claims about its request reaches the gate under names that this endpoint believes",
    why: "a client asks for a protected page, and the gate is asked about a public one",
    mend: Mend {
        nginx: "proxy_set_header X-Original-Method $request_method;\nproxy_set_header X-Original-URL $scheme://$host$request_uri;\nproxy_pass http://portcullis_gate/api/authz/auth-request;   # the older /api/verify believes X-Forwarded-*, too",
        traefik: "trustForwardHeader: false\nentryPoints: {websecure: {forwardedHeaders: {insecure: false}}}   # other proxies by `trustedIPs`\naddress: \"http://127.0.0.1:9091/api/authz/forward-auth\"   # the older /api/verify believes X-Original-URL, too",
        caddy: "remove `trusted_proxies` or name only proxies in it\nuri /api/authz/forward-auth?   # the older /api/verify believes X-Original-URL, too",
        envoy: "early_header_mutation_extensions: … - remove_on_match: {key_matcher: {prefix: x-forwarded-}}",
        haproxy: "http-request del-header x-forwarded- -m beg\nhttp-request del-header x-original- -m beg   # both before the `set-header` lines",
    },
};

/// Facts of the family that this endpoint does not read.
pub const FACTS_FOREIGN: Check = Check {
    id: "facts-foreign",
    attacks: &["A35"],
    severity: Severity::Warning,
    what: "what the client claims about its request reaches the gate, under names that this endpoint does not read",
    why: "one lock is left: had the endpoint another name, such as the older /api/verify, a client could speak to it",
    mend: Mend {
        nginx: "proxy_set_header X-Forwarded-Proto \"\";\nproxy_set_header X-Forwarded-Host \"\";\nproxy_set_header X-Forwarded-Uri \"\";\nproxy_set_header X-Forwarded-Method \"\";",
        traefik: "authRequestHeaders: [Accept, Authorization, Cookie, X-Requested-With]",
        caddy: "request_header -X-Original*",
        envoy: "allowed_headers: {patterns: [{exact: accept}, {exact: authorization}, {exact: cookie}, {exact: x-requested-with}]}",
        haproxy: "http-request del-header x-original- -m beg",
    },
};

/// Facts that `Connection` takes away.
pub const FACTS_DROPPED: Check = Check {
    id: "facts-dropped",
    attacks: &["A40"],
    severity: Severity::Finding,
    what: "a client that names headers in `Connection` takes them out of the question",
    why: "the gate refuses a question with gaps, but without X-Forwarded-For it takes the proxy's address for the client's",
    mend: Mend {
        nginx: "proxy_set_header Connection \"\";   # and set the facts in the same `location`",
        traefik: "upgrade Traefik (CVE-2024-45410, CVE-2026-29054)",
        caddy: "header_up -Connection   # in `forward_auth`",
        envoy: "headers_to_add under `authorization_request`, not `request_headers_to_add` of the route",
        haproxy: "keep `connection` in the list of headers that forward_auth.lua does not copy",
    },
};

/// Routing by one host, asking about another.
pub const HOST_DIFFERS: Check = Check {
    id: "host-differs",
    attacks: &["A31"],
    severity: Severity::Finding,
    what: "a request line with a host of its own is asked about under the host of the `Host` header",
    why: "the site is chosen by the one and the rule by the other (RFC 9112 §3.2.2): a public host opens a protected one",
    mend: Mend {
        nginx: "proxy_set_header X-Original-URL $scheme://$host$request_uri;   # on a port of its own `$host:$server_port`, not `$http_host`",
        traefik: "upgrade Traefik",
        caddy: "upgrade Caddy",
        envoy: "upgrade Envoy",
        haproxy: "http-request deny deny_status 400 if { url_beg http:// https:// }",
    },
};

/// Two readings of one path.
pub const PATH_DIFFERS: Check = Check {
    id: "path-differs",
    attacks: &["A18", "A19"],
    severity: Severity::Finding,
    what: "the gate is asked about another path than the application gets",
    why: "a path is written so that the gate sees a public page and the application a protected one",
    mend: Mend {
        nginx: "proxy_set_header X-Original-URL $scheme://$host$request_uri;   # `$uri` is decoded and cleaned\nproxy_pass http://application;   # nothing after the name: with a path nginx passes on `$uri`",
        traefik: "middlewares: [strip-forged-headers, portcullis, …]   # no replacePathRegex around it that decodes",
        caddy: "no `rewrite` or `uri` between the question and `reverse_proxy` that decodes or cleans",
        envoy: "normalize_path: true\nmerge_slashes: true\npath_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT   # in the listener, before ext_authz",
        haproxy: "http-request set-header X-Forwarded-URI %[pathq]   # and no `normalize-uri` after it",
    },
};

/// A prefix taken off after the question.
pub const PATH_REWRITTEN: Check = Check {
    id: "path-rewritten",
    attacks: &["A18"],
    severity: Severity::Note,
    what: "the application gets the path with a prefix taken off or put before it",
    why: "rules speak of the path that the client asked for",
    mend: Mend { nginx: "", traefik: "", caddy: "", envoy: "", haproxy: "" },
};

/// A question without the query.
pub const QUERY_LOST: Check = Check {
    id: "query-lost",
    attacks: &["A19"],
    severity: Severity::Finding,
    what: "the question has another query than the client's request",
    why: "rules with `query` decide about nothing, and people land on another page after signing in",
    mend: Mend {
        nginx: "proxy_set_header X-Original-URL $scheme://$host$request_uri;   # `$uri` has no query",
        traefik: "no middleware that rewrites before `portcullis`",
        caddy: "no `rewrite` before `forward_auth`",
        envoy: "path_prefix: /api/authz/ext-authz/   # `path_prefix`, not a path of your own in a Lua filter",
        haproxy: "http-request set-header X-Forwarded-URI %[pathq]   # `path` has no query",
    },
};

/// A client that speaks to the gate by its query.
pub const QUERY_LEAKS: Check = Check {
    id: "query-leaks",
    attacks: &["A64"],
    severity: Severity::Finding,
    what: "the client's query becomes the query of the gate's own URL",
    why: "anybody's link with `authelia_url`, `rd` or `auth` in it sets the gate's parameters",
    mend: Mend {
        nginx: "proxy_pass http://portcullis_gate/api/authz/auth-request;   # without `$is_args$args`",
        traefik: "address: \"http://127.0.0.1:9091/api/authz/forward-auth\"",
        caddy: "uri /api/authz/forward-auth?   # the `?` keeps the client's query out",
        envoy: "path_prefix: /api/authz/ext-authz/",
        haproxy: "http-request lua.forward_auth http://portcullis/api/authz/forward-auth abns@portcullis",
    },
};

/// A question with a body, or the promise of one.
pub const BODY_SENT: Check = Check {
    id: "body-sent",
    attacks: &["A60", "A61", "A63"],
    severity: Severity::Finding,
    what: "the question announces the client's body",
    why: "a body that is announced and not sent makes the gate wait, or take the next question for it; one that is sent \
          holds the gate up",
    mend: Mend {
        nginx: "proxy_pass_request_body off;\nproxy_set_header Content-Length \"\";",
        traefik: "forwardBody: false",
        caddy: "method GET   # in the question; `forward_auth` does so by itself",
        envoy: "remove `with_request_body`",
        haproxy: "keep `content-length` and `transfer-encoding` in the list of headers that forward_auth.lua does not copy",
    },
};

/// An address that the client chose.
pub const ADDRESS_FORGED: Check = Check {
    id: "address-forged",
    attacks: &["A36"],
    severity: Severity::Finding,
    what: "the client chooses the address that the gate takes for its own",
    why: "rules with `networks` let anybody in, and a ban hits whom the attacker likes",
    mend: Mend {
        nginx: "proxy_set_header X-Forwarded-For $remote_addr;   # where the question is asked",
        traefik: "trustForwardHeader: false\nentryPoints: {websecure: {forwardedHeaders: {insecure: false}}}   # other proxies by `trustedIPs`",
        caddy: "remove `trusted_proxies` or name only proxies in it",
        envoy: "headers_to_add: [{key: X-Forwarded-For, value: \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\"}]",
        haproxy: "http-request set-header X-Forwarded-For %[src]",
    },
};

/// An address behind one that the client chose.
pub const ADDRESS_APPENDED: Check = Check {
    id: "address-appended",
    attacks: &["A36"],
    severity: Severity::Warning,
    what: "the address that the client claims reaches the gate in front of the true one",
    why: "the gate counts from the right, so this holds as long as the client's own address is in no trusted network",
    mend: Mend {
        nginx: "proxy_set_header X-Forwarded-For $remote_addr;   # not `$proxy_add_x_forwarded_for`",
        traefik: "trustForwardHeader: false\nentryPoints: {websecure: {forwardedHeaders: {insecure: false}}}   # other proxies by `trustedIPs`",
        caddy: "remove `trusted_proxies` or name only proxies in it",
        envoy: "take `x-forwarded-for` out of `allowed_headers`\nheaders_to_add: [{key: X-Forwarded-For, value: \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\"}]",
        haproxy: "http-request set-header X-Forwarded-For %[src]   # not `option forwardfor` or `add-header`",
    },
};

/// No address at all.
pub const ADDRESS_MISSING: Check = Check {
    id: "address-missing",
    attacks: &["A36"],
    severity: Severity::Warning,
    what: "the question does not say from which address the client comes",
    why: "the gate takes the proxy's address for everybody's: rules with `networks` fit all or nobody, and a ban hits all",
    mend: Mend {
        nginx: "proxy_set_header X-Forwarded-For $remote_addr;",
        traefik: "upgrade Traefik, which sets X-Forwarded-For by itself",
        caddy: "remove `header_up -X-Forwarded-For`",
        envoy: "headers_to_add: [{key: X-Forwarded-For, value: \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\"}]",
        haproxy: "http-request set-header X-Forwarded-For %[src]",
    },
};

/// Aliases of facts.
pub const ALIAS_TO_GATE: Check = Check {
    id: "alias-to-gate",
    attacks: &["A39"],
    severity: Severity::Warning,
    what: "what the client claims reaches the gate under names with `_` or `.` for `-`",
    why: "Portcullis takes these for other names, but whatever stands between may not",
    mend: Mend {
        nginx: "underscores_in_headers off;\nignore_invalid_headers on;",
        traefik: "authRequestHeaders: [Accept, Authorization, Cookie, X-Requested-With]\nentryPoints: {websecure: {http: {aliasHeadersStrategy: delete}}}",
        caddy: "request_header -X_Forwarded*\nrequest_header -X_Original*\nrequest_header -Remote*",
        envoy: "common_http_protocol_options: {headers_with_underscores_action: DROP_HEADER}",
        haproxy: "http-request del-header [^-a-zA-Z0-9] -m reg",
    },
};

/// Somebody else's name.
pub const IDENTITY_FORGED: Check = Check {
    id: "identity-forged",
    attacks: &["A45"],
    severity: Severity::Finding,
    what: "the application takes the client's word for who it is",
    why: "where nobody needs to sign in, and often elsewhere, a client is whoever it says, an administrator for instance",
    mend: Mend {
        nginx: "auth_request_set $authz_user $upstream_http_remote_user;   # likewise -groups, -name, -email\nproxy_set_header Remote-User $authz_user;   # in the application's `location`, all four",
        traefik: "authResponseHeaders: [Remote-User, Remote-Groups, Remote-Name, Remote-Email]\ncustomRequestHeaders: {Remote-User: \"\", Remote-Groups: \"\", Remote-Name: \"\", Remote-Email: \"\"}   # before `portcullis`",
        caddy: "request_header -Remote*   # before `forward_auth`, inside `route`\ncopy_headers Remote-User Remote-Groups Remote-Name Remote-Email",
        envoy: "early_header_mutation_extensions: … - remove_on_match: {key_matcher: {prefix: remote-}}\nallowed_upstream_headers: {patterns: [{prefix: remote-}]}",
        haproxy: "http-request del-header remote- -m beg   # before the question",
    },
};

/// The same, were the gate silent.
pub const IDENTITY_UNGUARDED: Check = Check {
    id: "identity-unguarded",
    attacks: &["A45"],
    severity: Severity::Warning,
    what: "were the gate's yes without identity headers, the client's own would reach the application",
    why: "one lock is left: Portcullis always sends all four, empty where there is nobody to name",
    mend: IDENTITY_FORGED.mend,
};

/// Somebody else's name, spelled with an underscore.
pub const IDENTITY_ALIAS: Check = Check {
    id: "identity-alias",
    attacks: &["A39", "A46"],
    severity: Severity::Finding,
    what: "the client's own identity reaches the application under names with `_` or `.` for `-`",
    why: "CGI, WSGI and PHP applications read `Remote_User` as `Remote-User`",
    mend: Mend {
        nginx: "underscores_in_headers off;\nignore_invalid_headers on;",
        traefik: "entryPoints: {websecure: {http: {aliasHeadersStrategy: delete}}}   # Traefik 3.6 and earlier: blank the spellings by `customRequestHeaders`",
        caddy: "request_header -Remote*",
        envoy: "common_http_protocol_options: {headers_with_underscores_action: DROP_HEADER}\n- remove_on_match: {key_matcher: {safe_regex: {regex: \"[^:].*[^-a-z0-9].*\"}}}",
        haproxy: "http-request del-header [^-a-zA-Z0-9] -m reg",
    },
};

/// A name that does not arrive.
pub const IDENTITY_LOST: Check = Check {
    id: "identity-lost",
    attacks: &[],
    severity: Severity::Warning,
    what: "the identity that the gate names does not reach the application",
    why: "the application takes everybody for a stranger",
    mend: IDENTITY_FORGED.mend,
};

/// What an application believes about the way.
pub const WAY_FORGED: Check = Check {
    id: "way-forged",
    attacks: &["A36", "A38"],
    severity: Severity::Warning,
    what: "what the client claims about its address, host or path reaches the application",
    why: "applications build links from it, log it and grant rights by it; most believe the first address in the list",
    mend: Mend {
        nginx: "proxy_set_header X-Forwarded-For $remote_addr;\nproxy_set_header X-Forwarded-Host $host;\nproxy_set_header X-Forwarded-Proto $scheme;   # and \"\" for -Port, -Prefix, -Uri, -Method, X-Original-*, X-Real-IP, Forwarded",
        traefik: "entryPoints: {websecure: {forwardedHeaders: {insecure: false}}}\ncustomRequestHeaders: {X-Original-URL: \"\", X-Original-Method: \"\", Forwarded: \"\"}",
        caddy: "request_header -X-Forwarded*\nrequest_header -X-Original*\nrequest_header -X-Real-IP\nrequest_header -Forwarded",
        envoy: "early_header_mutation_extensions: … - remove_on_match: {key_matcher: {prefix: x-forwarded-}}   # likewise x-original-, x-real-ip, forwarded",
        haproxy: "http-request del-header x-forwarded- -m beg\nhttp-request del-header x-original- -m beg\nhttp-request del-header x-real-ip\nhttp-request del-header forwarded",
    },
};

/// People who don't find the sign-in page.
pub const SIGN_IN_LOST: Check = Check {
    id: "sign-in-lost",
    attacks: &[],
    severity: Severity::Warning,
    what: "the way to the sign-in page does not arrive as the gate sends it",
    why: "people see an error instead of the sign-in page, or scripts a page instead of the 401",
    mend: Mend {
        nginx: "auth_request_set $authz_location $upstream_http_location;\nerror_page 401 = @sign_in;\nlocation @sign_in { if ($keep_401) { return 401; } return 302 $authz_location; }",
        traefik: "remove the `errors` middleware before `portcullis`",
        caddy: "remove `handle_errors` and `handle_response` around the question",
        envoy: "allowed_client_headers: {patterns: [{exact: location}, {exact: www-authenticate}, {exact: set-cookie}]}",
        haproxy: "http-request return status 302 hdr Location \"%[var(txn.authz_location)]\" if !is_portal { var(txn.authz_status) -m int 302 }\nhttp-request return status 401 if !is_portal { var(txn.authz_status) -m int 401 }",
    },
};

/// A question without what the gate decides by.
pub const QUESTION_STARVED: Check = Check {
    id: "question-starved",
    attacks: &[],
    severity: Severity::Warning,
    what: "headers that the gate decides by do not reach it",
    why: "without the cookie nobody is signed in; without `Accept` nobody is sent to the sign-in page",
    mend: Mend {
        nginx: "proxy_pass_request_headers on;",
        traefik: "authRequestHeaders: [Accept, Authorization, Cookie, X-Requested-With]",
        caddy: "remove `header_up -Cookie` and its like from `forward_auth`",
        envoy: "allowed_headers: {patterns: [{exact: accept}, {exact: authorization}, {exact: cookie}, {exact: x-requested-with}]}",
        haproxy: "copy every header in forward_auth.lua but those of one connection",
    },
};

/// A yes that is not the gate's.
pub const ACCEPTS_OTHERS: Check = Check {
    id: "accepts-others",
    attacks: &[],
    severity: Severity::Note,
    what: "the proxy takes other answers than 200 for a yes",
    why: "Portcullis says yes by 200 alone, so this matters only if the question goes elsewhere by mistake",
    mend: Mend { nginx: "", traefik: "", caddy: "", envoy: "", haproxy: "" },
};

/// Credentials that go on.
pub const CREDENTIALS_DOWNSTREAM: Check = Check {
    id: "credentials-downstream",
    attacks: &["A51", "A74"],
    severity: Severity::Note,
    what: "the application gets the session cookie and the `Authorization` header",
    why: "an application that is not trusted with them belongs under a cookie domain of its own (`session.cookies`)",
    mend: Mend {
        nginx: "proxy_set_header Authorization \"\";   # where people use Basic credentials for the gate",
        traefik: "customRequestHeaders: {Authorization: \"\"}   # after `portcullis`",
        caddy: "header_up -Authorization   # in `reverse_proxy`",
        envoy: "request_headers_to_remove: [authorization]   # of the route",
        haproxy: "http-request del-header authorization   # after the question",
    },
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ALL, Proxy, Severity};

    #[test]
    fn every_check_has_its_own_name_and_a_way_to_mend_it_in_every_proxy() {
        let names: BTreeSet<_> = ALL.iter().map(|check| check.id).collect();
        assert_eq!(names.len(), ALL.len());
        for check in ALL {
            for proxy in Proxy::ALL {
                assert!(check.severity == Severity::Note || !check.mend(proxy).is_empty(), "{} {proxy:?}", check.id);
            }
        }
    }

    #[test]
    fn the_page_lists_every_check() {
        let mut table = String::from("\n| | | opens |\n|---|---|---|\n");
        for severity in [Severity::Finding, Severity::Warning, Severity::Note] {
            for check in ALL.into_iter().filter(|check| check.severity == severity) {
                let severity = format!("{severity:?}").to_lowercase();
                table += &format!("| {severity} `{}` | {} | {} |\n", check.id, check.what, check.attacks.join(", "));
            }
        }
        let page = include_str!("../../docs/doctor.md");
        let listed = page.split_once("<!-- checks -->").and_then(|(_, rest)| rest.split_once("<!-- /checks -->"));
        assert_eq!(listed.map(|(table, _)| table), Some(&*table), "docs/doctor.md must hold:\n{table}");
    }

    #[test]
    fn messages_are_written_in_the_house_style() {
        for check in ALL {
            for text in [check.what, check.why] {
                assert!(
                    !text.ends_with('.') && !text.starts_with(|c: char| c.is_uppercase() && c != 'P' && c != 'C'),
                    "{text}"
                );
                assert!(!text.contains("  "), "{text}");
            }
        }
    }
}
