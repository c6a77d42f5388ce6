//! The page in Chromium: one goes in, searches and sorts, in light and dark, on a wide and a narrow window, and without scripts.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::{machine, page};
use crate::ctl_lost::put;

/// A folder for screenshots, for inspection: PNG in base64.
const PICTURES: &str = "IMP_MOUNT_TEST_PICTURES";

/// A browser with one page, and no network.
struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: String,
    number: u64,
    events: Vec<Value>,
}

impl Browser {
    /// Starts the browser.
    fn start() -> Self {
        // The browser reads messages from descriptor 3 and writes them to 4, each with a NUL at its end.
        let line = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
            --user-data-dir=/tmp/chromium --remote-debugging-pipe 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "sh", "-c", line])
            .env("HOME", "/tmp")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser = Self { child, to, from, session: String::new(), number: 0, events: Vec::new() };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let wanted = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", wanted);
        browser.session = attached["sessionId"].as_str().map(str::to_owned).unwrap();
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method of the protocol, and returns its result.
    #[track_caller]
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut answer = self.next();
            if answer["id"] == self.number {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.events.push(answer);
        }
    }

    fn next(&mut self) -> Value {
        let mut message = Vec::new();
        self.from.read_until(0, &mut message).unwrap();
        message.pop();
        serde_json::from_slice(&message).expect("chromium ended")
    }

    /// The value of an expression in the page.
    #[track_caller]
    fn value(&mut self, expression: &str) -> Value {
        let wanted = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", wanted);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    #[track_caller]
    fn text(&mut self, expression: &str) -> String {
        self.value(expression).as_str().unwrap_or_else(|| panic!("{expression}")).to_owned()
    }

    /// The texts of the elements of a selector.
    #[track_caller]
    fn texts(&mut self, selector: &str) -> Vec<String> {
        let found = self.value(&format!(
            "[...document.querySelectorAll({})].map((it) => it.textContent)",
            json!(selector)
        ));
        serde_json::from_value(found).unwrap()
    }

    /// Clicks in the middle of an element, as a mouse does.
    #[track_caller]
    fn click(&mut self, element: &str) {
        let place = self.value(&format!(
            "(() => {{ const it = {element}; it.scrollIntoView({{ block: 'center' }}); const box = it.getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + Math.min(box.height / 2, 9)]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses a key.
    #[track_caller]
    fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.call(
                "Input.dispatchKeyEvent",
                json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code }),
            );
        }
    }

    /// Shows the page in a window of this size.
    #[track_caller]
    fn open(&mut self, width: u32, height: u32, scheme: &str) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features);
        self.events.clear();
        self.call("Page.navigate", json!({ "url": "file:///tmp/page/it.html" }));
        let is_loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(is_loaded) {
            let event = self.next();
            self.events.push(event);
        }
    }

    /// Takes a picture, where asked for.
    fn picture(&mut self, name: &str) {
        if let Some(folder) = std::env::var_os(PICTURES) {
            let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
            let path = std::path::Path::new(&folder).join(format!("{name}.png.base64"));
            fs::write(path, picture["data"].as_str().unwrap()).unwrap();
        }
    }

    /// Nothing may have gone wrong, and nothing but the page may have been asked for.
    #[track_caller]
    fn is_quiet(&self) {
        for event in &self.events {
            let method = event["method"].as_str().unwrap_or_default();
            assert!(
                !matches!(
                    method,
                    "Runtime.exceptionThrown"
                        | "Log.entryAdded"
                        | "Runtime.consoleAPICalled"
                        | "Page.javascriptDialogOpening"
                ),
                "{event}"
            );
            if method == "Network.requestWillBeSent" {
                let address = event["params"]["request"]["url"].as_str().unwrap();
                assert!(address.starts_with("file:///tmp/page/") || address == "about:blank", "{event}");
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The tile of a path.
fn tile(path: &str) -> String {
    format!(
        "[...document.querySelectorAll('.tile')].find((it) => it.title.startsWith({} + '\\n'))",
        json!(path)
    )
}

pub fn in_a_browser() {
    let (machine, compiled) = machine();
    let hostile = "/srv/<img src=x onerror=alert(1)>'\"&amp;\n</script><script>alert(2)";
    put(&machine.at(""), &format!("{hostile}/x"), vec![b'x'; 60_000]);
    for number in 0..60 {
        put(&machine.at(""), &format!("/opt/small/{number}"), vec![b'x'; 1 + number * 100]);
    }
    page(&machine.at(""), &["--manifest", &compiled]);
    let mut browser = Browser::start();
    let it = &mut browser;

    it.open(1280, 1000, "light");
    it.picture("light");
    assert_eq!(it.text("getComputedStyle(document.body).backgroundColor"), "rgb(246, 247, 249)");
    assert_eq!(it.value("document.getElementById('plain').hidden"), true);
    // The largest line comes first; every tile is in the map and has a size.
    let paths = it.texts("#list tbody .go, #list tbody .name");
    assert_eq!(paths[..3], ["/persist/var/lib/plex/", "/persist/var/lib/gitea/", "/var/lib/grafana/"]);
    assert!(
        paths.iter().any(|path| path.starts_with("/srv/<img src=x onerror=alert(1)>'\"&amp;\\n")),
        "{paths:?}"
    );
    // The size of a line excludes nested lines.
    let place = |path: &str| paths.iter().position(|it| it == path).unwrap();
    let (whole, part, between) =
        (place("/home/bob/"), place("/home/bob/.cache/"), place("/persist/users/ada/"));
    assert!(part < between && between < whole, "{paths:?}");
    let outside = "[...document.querySelectorAll('.tile')].filter((it) => it.offsetLeft < 0 || it.offsetTop < 0 \
        || it.offsetLeft + it.offsetWidth > tiles.clientWidth + 1 || it.offsetTop + it.offsetHeight > tiles.clientHeight + 1).length";
    assert_eq!(it.value(outside), 0);
    assert_eq!(it.value("document.documentElement.scrollWidth <= innerWidth"), true);
    // Areas are as sizes: both are of one folder.
    let area = |it: &mut Browser, path: &str| {
        let area = it.value(&format!(
            "(() => {{ const it = {}; return it.offsetWidth * it.offsetHeight }})()",
            tile(path)
        ));
        area.as_f64().unwrap()
    };
    let (large, small) = (
        area(it, "/persist/var/lib/plex/Library/Metadata/"),
        area(it, "/persist/var/lib/plex/Library/Cache/"),
    );
    assert!((2.4..3.8).contains(&(large / small)), "{large} {small}");

    is_as_large_as_planned(it);
    goes_in_and_out(it);
    goes_by_keys(it);
    searches(it);
    sorts(it);
    groups(it);
    // The hostile name is text, and nothing was run or loaded.
    assert_eq!(it.value("document.querySelectorAll('img').length"), 0);
    it.is_quiet();

    for (name, width, height) in [("dark", 1280, 1000), ("dark-narrow", 390, 1600)] {
        it.open(width, height, "dark");
        assert_eq!(it.text("getComputedStyle(document.body).backgroundColor"), "rgb(15, 18, 22)");
        assert_eq!(it.value("document.documentElement.scrollWidth <= innerWidth"), true, "{name}");
        it.picture(name);
        it.is_quiet();
    }
    it.open(390, 1600, "light");
    it.picture("light-narrow");

    it.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    for (name, width, scheme) in [("plain", 1280, "light"), ("plain-dark-narrow", 390, "dark")] {
        it.open(width, 1600, scheme);
        // The inspector reads the page without its scripts.
        let shown = it.text("document.body.innerText");
        for text in [
            "Would be gone",
            "/var/lib/grafana/",
            "{\"directory\":\"/var/lib/grafana\"}",
            "By owner",
            "Owner\tWould be gone",
            "grafana.service",
            "/persist/var/lib/gitea/",
        ] {
            assert!(shown.contains(text), "{name}: {text}: {shown}");
        }
        assert!(!shown.contains("Search"), "{shown}");
        assert_eq!(it.value("document.documentElement.scrollWidth <= innerWidth"), true, "{name}");
        it.picture(name);
        it.is_quiet();
    }
}

fn goes_in_and_out(it: &mut Browser) {
    // In, by a tile and by a line, and out by the path above and by the browser's own way back.
    it.click(&tile("/var/"));
    assert_eq!(it.texts("#crumbs b"), ["var/"]);
    it.click(
        "[...document.querySelectorAll('#list .go')].find((it) => it.textContent === '/var/lib/grafana/')",
    );
    assert_eq!(it.texts("#crumbs b"), ["grafana/"]);
    it.picture("inside");
    let rows = it.texts("#list tbody tr");
    assert!(
        rows[0].contains("data/") && rows[0].contains("{\"directory\":\"/var/lib/grafana/data\"}"),
        "{rows:?}"
    );
    it.value("history.back()");
    it.value("new Promise((done) => setTimeout(done, 100))");
    assert_eq!(it.texts("#crumbs b"), ["var/"]);
    it.click("document.querySelector('#crumbs button')");
    assert_eq!(it.texts("#crumbs b"), ["/"]);
    it.click(&tile("/var/"));
    it.press("Escape", 27);
    assert_eq!(it.texts("#crumbs b"), ["/"]);
    it.press("/", 191);
    assert_eq!(it.text("document.activeElement.id"), "search");
}

/// A small tile has no room for padding, and would lie over its neighbours.
#[track_caller]
fn is_as_large_as_planned(it: &mut Browser) {
    let larger = "[...document.querySelectorAll('.tile')].filter((it) => it.offsetWidth > parseFloat(it.style.width) + 1 \
        || it.offsetHeight > parseFloat(it.style.height) + 1).length";
    assert_eq!(it.value(larger), 0);
}

fn goes_by_keys(it: &mut Browser) {
    const HERE: &str = "document.activeElement.title?.split('\\n')[0]";
    // The map is one stop of the Tab key.
    assert_eq!(it.value("document.querySelectorAll('.tile[tabindex=\"0\"]').length"), 1);
    it.value("document.querySelector('.tile').focus()");
    assert_eq!(it.text(HERE), "/persist/");
    it.press("ArrowRight", 39);
    assert_eq!(it.text(HERE), "/persist/var/");
    it.press("ArrowDown", 40);
    it.press("ArrowLeft", 37);
    it.value("document.activeElement.click()");
    assert_eq!(it.texts("#crumbs b"), ["var/"]);
    // The focus stays in the map, and goes out to the tile that was left.
    assert_eq!(it.text(HERE), "/persist/var/lib/");
    it.press("Escape", 27);
    assert_eq!(it.text(HERE), "/persist/var/");
    it.press("Escape", 27);
    it.value("document.querySelector('#list .keep').focus()");
    it.press("Enter", 13);
    assert_eq!(it.value("getSelection().toString() === document.activeElement.textContent"), true);
}

fn searches(it: &mut Browser) {
    it.click("document.getElementById('search')");
    it.call("Input.insertText", json!({ "text": "grafana would" }));
    assert_eq!(it.value("document.getElementById('tiles').offsetHeight"), 0);
    let found = it.texts("#list tbody tr");
    assert!(found.len() >= 5 && found.iter().all(|row| row.contains("grafana")), "{found:?}");
    it.picture("search");
    it.call("Input.insertText", json!({ "text": " no such thing" }));
    assert_eq!(it.texts("#list tbody tr"), [""; 0]);
    assert_eq!(it.texts("#map .more"), ["Nothing found."]);
    it.press("Escape", 27);
    assert_eq!(it.value("document.getElementById('search').value"), "");
}

fn sorts(it: &mut Browser) {
    it.click("[...document.querySelectorAll('#list th button')].find((it) => it.textContent === 'Path')");
    let sorted = it.texts("#list tbody .go, #list tbody .name");
    let mut expected = sorted.clone();
    expected.sort();
    assert_eq!(sorted, expected);
    assert_eq!(it.text("document.querySelector('#list th[aria-sort]').textContent"), "Path");
    it.click("[...document.querySelectorAll('#list th button')].find((it) => it.textContent === 'Path')");
    expected.reverse();
    assert_eq!(it.texts("#list tbody .go, #list tbody .name"), expected);
}

fn groups(it: &mut Browser) {
    // One class alone, then by owner and by unit.
    for class in ["lost", "disposable", "orphaned"] {
        it.click(&format!("document.querySelector('#classes .{class} button')"));
    }
    let classes =
        it.value("[...new Set([...document.querySelectorAll('#list tbody tr')].map((it) => it.className))]");
    assert_eq!(classes, json!(["persists"]));
    for class in ["lost", "disposable", "orphaned"] {
        it.click(&format!("document.querySelector('#classes .{class} button')"));
    }
    it.click("document.querySelector('.by button[value=unit]')");
    assert!(it.texts("#list tbody tr").iter().any(|row| row.contains("grafana.service")));
    it.picture("units");
    it.click("document.querySelector('.by button[value=owner]')");
    is_as_large_as_planned(it);
    // A line inside another one is in its own group only.
    let mut titles = Vec::new();
    for title in it.value("[...document.querySelectorAll('.tile')].map((it) => it.title)").as_array().unwrap()
    {
        assert!(!titles.contains(&title.to_string()), "{title}");
        titles.push(title.to_string());
    }
    assert!(it.texts("#list tbody .go").contains(&"root".to_owned()));
    it.click("document.querySelector('#list .go')");
    assert!(it.texts("#list tbody .go").iter().all(|path| path.starts_with('/')));
}
