//! Portcullis as it is run: behind a proxy, with an application that tells what reached it.

use tempfile::TempDir;

use super::application::{Application, Seen};
use super::certificates::Certificates;
use super::client::{Request, Response};
use super::portcullis::Portcullis;
use super::proxy::{Proxy, RunningProxy, Upstreams};

/// Everything that takes part, started for one test. Fields drop in this order.
pub struct Stand {
    pub proxy: RunningProxy,
    pub application: Application,
    pub portcullis: Portcullis,
    _folder: TempDir,
}

impl Stand {
    /// Starts all of it; `config` and `users` are those of Portcullis.
    #[track_caller]
    pub fn build(proxy: Proxy, config: &str, users: &str) -> Stand {
        let folder = tempfile::tempdir().expect("temporary directory");
        let certificates = Certificates::new(folder.path());
        let application = Application::start();
        let portcullis = Portcullis::start(config, &[("users.yaml", users)]);
        let upstreams = Upstreams {
            gate: portcullis.gate,
            grpc: portcullis.grpc,
            portal: portcullis.portal,
            application: application.address,
        };
        let proxy = proxy.start(folder.path(), &certificates, upstreams);
        Stand { proxy, application, portcullis, _folder: folder }
    }

    /// Asks the proxy, over TLS.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        self.proxy.https.send(request)
    }
}

/// What reached the application, told by its answer.
#[track_caller]
pub fn seen(response: &Response) -> Seen {
    assert_eq!(response.status, 200, "{response:?}");
    serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{error}: {}", response.text()))
}

/// A test for each behaviour, which is a function over a [`Stand`], with `$proxy` in it.
#[allow(unused_macros, reason = "not every test program has a proxy")]
macro_rules! behaviours {
    ($proxy:expr; $($behaviour:ident)+) => {$(
        #[test]
        fn $behaviour() {
            super::$behaviour(&Stand::start($proxy));
        }
    )+};
}
