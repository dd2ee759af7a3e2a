//! The sign-in page in a real Chromium, driven through WebDriver, behind nginx from the file in `deploy/`.

#![cfg(test)]

mod harness;

use std::net::SocketAddr;
use std::process::Command;

use harness::client::{Client, Request};
use harness::portcullis::{CONFIG, USERS};
use harness::process::{Package, Process, free_port, program};
use harness::proxy::NGINX;
use harness::stand::Stand;
use serde_json::{Value, json};

/// A browser with one page, as WebDriver (W3C) shows it.
struct Browser {
    driver: Client,
    session: String,
    _process: Process,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts Chromium; every host below example.com is `site`.
    #[track_caller]
    fn start(site: SocketAddr) -> Browser {
        let profile = tempfile::tempdir().expect("temporary directory");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(program("chromedriver", Package::Debian("chromium-driver")));
        command.arg(format!("--port={}", address.port()));
        let mut process = Process::start("chromedriver", &mut command, profile.path().join("log"));
        let driver = Client::http(address);
        process.wait_for("its status", |_| {
            let answer = driver.try_send(&Request::script("GET", "localhost", "/status")).ok()?;
            (answer.status == 200).then_some(())
        });
        let mut arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push(format!("--host-resolver-rules=MAP *.example.com {site}"));
        arguments.push(format!("--user-data-dir={}", profile.path().join("profile").display()));
        let chromium = program("chromium", Package::Debian("chromium"));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
        }}});
        let mut browser = Browser { driver, session: String::new(), _process: process, _profile: profile };
        let session = browser.tell("POST", "", &wanted);
        browser.session = format!("/{}", session["sessionId"].as_str().expect("a session"));
        browser
    }

    #[track_caller]
    fn tell(&self, method: &str, path: &str, body: &Value) -> Value {
        let request = Request::new(method, "localhost", &format!("/session{}{path}", self.session));
        let body = if method == "GET" { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.driver.send(&request.body("application/json", &body));
        let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(answer.status, 200, "{path}: {told}");
        told["value"].clone()
    }

    fn open(&self, url: &str) {
        self.tell("POST", "/url", &json!({"url": url}));
    }

    fn url(&self) -> String {
        self.tell("GET", "/url", &Value::Null).as_str().expect("a URL").to_owned()
    }

    #[track_caller]
    fn element(&self, id: &str) -> String {
        let found = self.tell("POST", "/element", &json!({"using": "css selector", "value": format!("#{id}")}));
        let name = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        format!("/element/{}", name.expect("an element"))
    }

    fn write(&self, id: &str, text: &str) {
        self.tell("POST", &format!("{}/value", self.element(id)), &json!({"text": text}));
    }

    fn click(&self, id: &str) {
        self.tell("POST", &format!("{}/click", self.element(id)), &json!({}));
    }

    fn text(&self) -> String {
        self.tell("POST", "/execute/sync", &json!({"script": "return document.body.innerText", "args": []}))
            .as_str()
            .expect("text")
            .to_owned()
    }
}

impl Browser {
    /// Waits until `told` says so: a click returns before the page that it leads to is there.
    #[track_caller]
    fn until(&self, what: &str, told: impl Fn(&Browser) -> bool) {
        let started = std::time::Instant::now();
        while !told(self) {
            assert!(started.elapsed().as_secs() < 30, "{what}: {}\n{}", self.url(), self.text());
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session; the driver alone is killed with its process.
        let _ = self.driver.try_send(&Request::new("DELETE", "localhost", &format!("/session{}", self.session)));
    }
}

#[test]
fn a_person_signs_in_sees_the_page_and_signs_out() {
    let stand = Stand::build(NGINX, &CONFIG.replace("{more}", ""), USERS);
    let browser = Browser::start(stand.proxy.https.address());

    let page = "https://app.example.com/page?x=1&y=two%20words";
    let at_sign_in =
        |browser: &Browser| browser.url().starts_with("https://auth.example.com/?rd=https%3A%2F%2Fapp.example.com");
    browser.open(page);
    browser.until("sent to sign in", at_sign_in);
    assert!(browser.text().contains("app.example.com"), "the page says where it leads back to: {}", browser.text());

    browser.write("username-textfield", "john");
    browser.write("password-textfield", "wrong");
    browser.click("sign-in-button");
    browser.until("refused", |browser| browser.text().contains("Authentication failed. Check your credentials."));
    assert!(browser.url().starts_with("https://auth.example.com/"), "{}", browser.url());

    browser.write("password-textfield", "password");
    browser.click("sign-in-button");
    browser.until("back where the person came from, the query whole", |browser| browser.url() == page);
    browser.until("the name at the application", |browser| {
        browser.text().to_lowercase().replace(' ', "").contains(r#"["remote-name","johndoe"]"#)
    });

    browser.open("https://auth.example.com/");
    browser.until("signed in", |browser| browser.text().contains("John Doe"));
    browser.click("logout-button");
    browser.until("signed out", |browser| browser.text().to_lowercase().contains("signed out"));
    browser.open(page);
    browser.until("asked to sign in once more", at_sign_in);
}
