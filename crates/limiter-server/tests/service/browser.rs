//! A real browser: Chromium, led by ChromeDriver.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fantoccini::key::Key;
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use limiter_test_servers::Process;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A browser with one window. It is closed when dropped.
#[derive(Debug)]
pub(crate) struct Browser {
    client: Client,
    runtime: Runtime,
    driver: Process,
    _folder: TempDir,
}

/// The color scheme that the viewer prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

impl Browser {
    pub(crate) fn start() -> Self {
        Self::with(Scheme::Light)
    }

    pub(crate) fn with(scheme: Scheme) -> Self {
        let folder = TempDir::new().expect("there is room for files");
        let mut command = Command::new("chromedriver");
        // The viewer is in India, half an hour off.
        command.arg("--port=0").env("TZ", "Asia/Kolkata");
        let mut driver = Process::start(&command, folder.path());
        let line = driver.line_with("started successfully on port").unwrap_or_else(|output| {
            panic!("chromedriver does not start; scripts/test installs it: {output}")
        });
        let port = line.trim_end_matches('.').rsplit(' ').next().expect("it ends with the port");
        let data = format!("--user-data-dir={}", folder.path().join("data").display());
        let preferred = match scheme {
            Scheme::Dark => "--blink-settings=preferredColorScheme=0",
            Scheme::Light => "--blink-settings=preferredColorScheme=1",
        };
        let flags: Vec<&str> = FLAGS.into_iter().chain([data.as_str(), preferred]).collect();
        let options = json!({ "goog:chromeOptions": { "args": flags } });
        let Value::Object(capabilities) = options else { unreachable!("it is an object") };
        let capabilities: Capabilities = capabilities.into_iter().collect();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread can be started");
        let url = format!("http://127.0.0.1:{port}");
        let connected = runtime.block_on(async {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(capabilities).connect(&url).await
        });
        let client = connected.unwrap_or_else(|error| panic!("{error}: {}", driver.output()));
        let browser = Self { client, runtime, driver, _folder: folder };
        browser.resize(1_000, 900);
        browser
    }

    pub(crate) fn open(&self, url: &str) {
        self.runtime.block_on(self.client.goto(url)).expect("the page opens");
    }

    /// Returns the path and the query of the page.
    pub(crate) fn path(&self) -> String {
        let url = self.runtime.block_on(self.client.current_url()).expect("it has a URL");
        match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        }
    }

    pub(crate) fn title(&self) -> String {
        self.runtime.block_on(self.client.title()).expect("it has a title")
    }

    /// Returns the text that a viewer sees.
    pub(crate) fn text(&self) -> String {
        let text = self.run("return document.body.innerText");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Clicks the link or the button with this text.
    pub(crate) fn click(&self, text: &str) {
        let path =
            format!("//a[normalize-space()=\"{text}\"] | //button[normalize-space()=\"{text}\"]");
        self.runtime.block_on(async {
            let found = self.client.find(Locator::XPath(&path)).await;
            let found = found.unwrap_or_else(|error| panic!("{text:?}: {error}"));
            found.click().await.unwrap_or_else(|error| panic!("{text:?}: {error}"));
        });
    }

    /// Checks the radio button of this name and value.
    pub(crate) fn choose(&self, name: &str, value: &str) {
        self.click_on(&format!("[name='{name}'][value='{value}']"));
    }

    pub(crate) fn click_on(&self, css: &str) {
        self.runtime.block_on(async {
            let found = self.client.find(Locator::Css(css)).await.expect("it is there");
            found.click().await.expect("it can be clicked");
        });
    }

    /// Replaces the text of a field by its name.
    pub(crate) fn fill(&self, name: &str, text: &str) {
        self.runtime.block_on(async {
            let field = self.client.find(Locator::Css(&format!("[name='{name}']"))).await;
            let field = field.unwrap_or_else(|error| panic!("{name}: {error}"));
            field.clear().await.expect("it can be cleared");
            field.send_keys(text).await.expect("it takes text");
        });
    }

    /// Types into the element that has the focus.
    pub(crate) fn type_keys(&self, keys: &str) {
        self.runtime.block_on(async {
            let focused = self.client.active_element().await.expect("something has the focus");
            focused.send_keys(keys).await.expect("it takes keys");
        });
    }

    /// Presses Tab until the link, the button or the field with this text or name has the focus.
    pub(crate) fn tab_to(&self, wanted: &str) {
        let script = "const at = document.activeElement; return at.name || at.innerText || ''";
        for _ in 0..MOST_TABS {
            if self.run(script).as_str().is_some_and(|text| text.trim() == wanted) {
                return;
            }
            self.type_keys(&Key::Tab.to_string());
        }
        panic!("{wanted:?} is not reached by Tab: {}", self.text());
    }

    /// Runs a script in the page, and returns its result.
    pub(crate) fn run(&self, script: &str) -> Value {
        let run = self.client.execute(script, Vec::new());
        self.runtime.block_on(run).unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    pub(crate) fn resize(&self, width: u32, height: u32) {
        self.runtime.block_on(self.client.set_window_size(width, height)).expect("it is resized");
    }

    /// Saves a picture of the window in the target folder.
    pub(crate) fn screenshot(&self, name: &str) {
        let png = self.runtime.block_on(self.client.screenshot()).expect("it is drawn");
        let folder = target().join("console");
        fs::create_dir_all(&folder).expect("the folder can be made");
        fs::write(folder.join(format!("{name}.png")), png).expect("there is room for a picture");
    }

    /// Returns what the rules of axe find in the page, if it is serious: rule and elements.
    pub(crate) fn accessibility_findings(&self) -> Vec<String> {
        let axe = target().join("node_modules/axe-core/axe.min.js");
        let axe = fs::read_to_string(&axe)
            .unwrap_or_else(|error| panic!("{}: {error}; scripts/test installs it", axe.display()));
        self.run(&format!("{axe}; window.axe = axe;"));
        let script = "const done = arguments[arguments.length - 1]; \
                      window.axe.run().then((found) => done(found.violations))";
        let run = self.client.execute_async(script, Vec::new());
        let found = self.runtime.block_on(run).expect("axe runs");
        let found = found.as_array().expect("it is a list").iter();
        let serious =
            found.filter(|rule| ["serious", "critical"].map(Value::from).contains(&rule["impact"]));
        serious.map(|rule| format!("{}: {}", rule["id"], rule["nodes"])).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // ChromeDriver ends its Chromium when it is asked to end, and not when it is killed.
        self.driver.signal(Signal::SIGTERM);
        self.driver.ended();
    }
}

/// The folder of what cargo builds.
fn target() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    folder.expect("it lies in the target folder").to_owned()
}

/// Headless, without a sandbox, which root cannot have, and without calls of its own to the network.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// More than any page has links.
const MOST_TABS: usize = 60;
