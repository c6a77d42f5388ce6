//! The page: text readable without scripts, and a map drawn by scripts.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::json;

use super::item::{self, Class, Item, Keep};
use super::tree::Tree;
use crate::ctl::recover::gone::Gone;
use crate::ctl::roots::old::{OldRoot, OnStore};
use crate::ctl::scan::{Totals, show};
use crate::ctl::ui::terminal::{age, count, date_time, number, size};
use crate::text::escape::{self, html};

/// Maximum of bytes for one table.
const TABLE: usize = 80_000;

/// Everything on the page.
#[derive(Debug)]
pub struct Document<'d> {
    /// The name of the machine, from /etc/hostname.
    pub host: Vec<u8>,
    /// The root, seen from here.
    pub root: &'d [u8],
    /// The paths of the stores.
    pub stores: Vec<String>,
    /// Time of the search: seconds since 1970.
    pub made: i64,
    /// Paths that could not be read.
    pub notes: Vec<String>,
    /// The old roots.
    pub roots: &'d [OnStore],
    /// Paths of the last root missing on this one.
    pub gone: Option<&'d Gone>,
    /// Form of the lines to keep paths.
    pub keep: &'d Keep,
    /// All paths.
    pub items: &'d [Item],
}

/// The text of a page.
#[derive(Debug, Default)]
struct Html(String);

impl Html {
    /// Adds tags of our own. Everything else passes [`html`].
    fn raw(&mut self, tags: &str) {
        self.0.push_str(tags);
    }

    /// Adds an element with text.
    fn element(&mut self, tag: &str, class: &str, text: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "<{tag} class=\"{class}\">{}</{tag}>", html(text));
    }
}

impl Document<'_> {
    /// The page, with a map.
    ///
    /// # Errors JSON cannot be written, or there are no random numbers.
    pub fn render(&self, tree: &Tree) -> std::io::Result<String> {
        let nonce = nonce()?;
        let mut page = Html::default();
        page.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        page.raw(&format!(
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'nonce-{nonce}'; \
             script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'\">\n"
        ));
        page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        page.raw("<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n");
        page.raw(&format!("<title>{}</title>\n", html(&self.title())));
        page.raw(&format!(
            "<style nonce=\"{nonce}\">\n{}</style>\n</head>\n<body>\n",
            include_str!("page.css")
        ));
        self.head(&mut page);
        page.raw("<main>\n<div id=\"map\" hidden></div>\n<div id=\"plain\">\n");
        for class in Class::ALL {
            self.class(&mut page, class);
        }
        self.groups(&mut page, "Owner", |item| &item.owner);
        self.groups(&mut page, "Unit", |item| &item.unit);
        page.raw("</div>\n");
        self.old_roots(&mut page);
        page.raw("</main>\n");
        page.element("footer", "", &format!("impctl {}", env!("CARGO_PKG_VERSION")));
        let (nodes, words) = tree.json()?;
        let about = escape::html_json(&json!({ "made": self.made, "frames": self.keep.frames }))?;
        page.raw("<script type=\"application/json\" id=\"data\">\n");
        page.raw(&format!("{{\"about\":{about},\n\"words\":{words},\n\"nodes\":{nodes}}}\n</script>\n"));
        page.raw(&format!(
            "<script nonce=\"{nonce}\">\n{}</script>\n</body>\n</html>\n",
            include_str!("page.js")
        ));
        Ok(page.0)
    }

    fn title(&self) -> String {
        let host = String::from_utf8_lossy(&self.host);
        let host = host.lines().next().unwrap_or_default().trim();
        let of = if self.root == b"/" && !host.is_empty() {
            escape::name(host).into_owned()
        } else {
            escape::name(self.root).into_owned()
        };
        format!("What persists on {of}")
    }

    fn head(&self, page: &mut Html) {
        page.raw("<header>\n");
        page.element("h1", "", &self.title());
        let stores = if self.stores.is_empty() {
            String::new()
        } else {
            format!(", stores {}", self.stores.join(", "))
        };
        page.element(
            "p",
            "about",
            &format!("Root {}{stores}. Looked at {} UTC.", escape::name(self.root), date_time(self.made)),
        );
        for note in &self.notes {
            page.element("p", "note", note);
        }
        let sums = Class::ALL.map(|class| item::sum(self.items, class));
        self.bar(page, &sums);
        page.raw("<ul id=\"classes\">\n");
        for (class, totals) in Class::ALL.into_iter().zip(&sums) {
            let (title, meaning) = class.words();
            page.raw(&format!("<li class=\"{}\">", class.id()));
            page.element("b", "title", title);
            page.element("span", "size", &size(totals.allocated));
            page.element("span", "meaning", &format!("{}, {meaning}", count(totals.files, "file")));
            page.raw("</li>\n");
        }
        page.raw("</ul>\n</header>\n");
    }

    /// The shares of the classes, as a picture.
    #[allow(clippy::unused_self, reason = "one of the parts of the page")]
    fn bar(&self, page: &mut Html, sums: &[Totals]) {
        const WIDTH: u128 = 1000;
        let all: u128 = sums.iter().map(|sum| u128::from(sum.allocated)).sum();
        page.raw(
            "<svg class=\"bar\" viewBox=\"0 0 1000 12\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
        );
        let mut at = 0;
        for (class, sum) in Class::ALL.into_iter().zip(sums) {
            let end = at + u128::from(sum.allocated);
            let place = |bytes: u128| (bytes * WIDTH).checked_div(all).unwrap_or(0);
            let (left, width) = (place(at), place(end) - place(at));
            page.raw(&format!(
                "<rect class=\"{}\" x=\"{left}\" width=\"{width}\" height=\"12\"/>",
                class.id()
            ));
            at = end;
        }
        page.raw("</svg>\n");
    }

    fn class(&self, page: &mut Html, class: Class) {
        let mut rows: Vec<_> = self.items.iter().filter(|item| item.class == class && !item.part).collect();
        rows.sort_by(|a, b| {
            (b.row.totals.allocated, &a.row.path).cmp(&(a.row.totals.allocated, &b.row.path))
        });
        page.raw(&format!("<section class=\"{}\">\n", class.id()));
        page.element("h2", "", class.words().0);
        if rows.is_empty() {
            page.element("p", "none", "Nothing.");
            page.raw("</section>\n");
            return;
        }
        page.raw("<table class=\"paths\">\n<thead><tr><th class=\"number\">Size</th><th class=\"number\">Files</th><th class=\"number\">Changed</th><th>Owner</th><th>Path</th></tr></thead>\n<tbody>\n");
        let start = page.0.len();
        let mut rows = rows.into_iter();
        for item in rows.by_ref() {
            self.row(page, item);
            if page.0.len() - start > TABLE {
                break;
            }
        }
        page.raw("</tbody>\n</table>\n");
        let mut rest = Totals::default();
        let more = rows.map(|item| rest.add(&item.row.totals)).count() as u64;
        if more > 0 {
            let said =
                format!("{} more, {} in {}", number(more), size(rest.allocated), count(rest.files, "file"));
            page.element("p", "more", &said);
        }
        page.raw("</section>\n");
    }

    fn row(&self, page: &mut Html, item: &Item) {
        let totals = &item.row.totals;
        page.raw("<tr>");
        page.element("td", "number", &size(totals.allocated));
        page.element("td", "number", &number(totals.files));
        let changed = totals.newest.map_or_else(String::new, |(then, _)| age(then, self.made));
        page.element("td", "number", &changed);
        page.element("td", "owner", &item.owner);
        page.raw("<td class=\"path\">");
        page.element("span", "name", &show::path(&item.row));
        let said: Vec<_> =
            [&item.unit, &item.remark].into_iter().filter(|text| !text.is_empty()).cloned().collect();
        if !said.is_empty() {
            page.element("span", "remark", &said.join("; "));
        }
        if let Some(line) = &item.line {
            page.element("code", "keep", &self.keep.text(line));
        }
        page.raw("</td></tr>\n");
    }

    /// Sums by a property of each path.
    fn groups(&self, page: &mut Html, by: &str, of: impl Fn(&Item) -> &str) {
        let mut groups: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
        for item in self.items.iter().filter(|item| !item.part) {
            groups.entry(of(item)).or_default()[item.class as usize] += item.row.totals.allocated;
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(name, sums)| (std::cmp::Reverse(sums.iter().sum::<u64>()), *name));
        page.raw("<section>\n");
        page.element("h2", "", &format!("By {}", by.to_lowercase()));
        page.raw("<table>\n<thead><tr>");
        page.element("th", "", by);
        for class in Class::ALL {
            page.element("th", "number", class.words().0);
        }
        page.raw("</tr></thead>\n<tbody>\n");
        let (start, all) = (page.0.len(), groups.len());
        let mut shown = 0;
        for (name, sums) in groups {
            page.raw("<tr>");
            page.element("td", "name", if name.is_empty() { "unknown" } else { name });
            for class in Class::ALL {
                let sum = sums[class as usize];
                page.element("td", "number", &if sum == 0 { String::new() } else { size(sum) });
            }
            page.raw("</tr>\n");
            shown += 1;
            if page.0.len() - start > TABLE / 2 {
                break;
            }
        }
        page.raw("</tbody>\n</table>\n");
        if shown < all {
            page.element("p", "more", &format!("{} more", number((all - shown) as u64)));
        }
        page.raw("</section>\n");
    }

    fn old_roots(&self, page: &mut Html) {
        if self.roots.iter().all(|on_store| on_store.all.is_empty()) {
            return;
        }
        page.raw("<section id=\"roots\">\n");
        page.element("h2", "", "Old roots");
        page.element(
            "p",
            "meaning",
            "Roots of earlier boots, on a store. impctl recover brings back what one of them holds.",
        );
        if let Some(gone) = self.gone {
            let places = count(gone.paths.len() as u64, "place");
            page.element("p", "note", &format!("This root lacks what root {} had, in {places}:", gone.root));
            match gone.command() {
                Some(command) => page.element("code", "keep", &command),
                None => page.element("p", "note", "Saving that root left all of that out."),
            }
        }
        let start = page.0.len();
        for old in self.roots.iter().flat_map(|on_store| on_store.all.iter().rev()) {
            if page.0.len() - start > 2 * TABLE {
                page.element("p", "more", "impctl roots lists the others");
                break;
            }
            old_root(page, old);
        }
        page.raw("</section>\n");
    }
}

fn old_root(page: &mut Html, old: &OldRoot) {
    let made = old.boot.as_ref().map_or_else(String::new, |boot| {
        let made = boot.made.cast_signed();
        format!(", made {} UTC", date_time(made))
    });
    let held = old
        .end
        .as_ref()
        .map_or_else(String::new, |end| format!(", {} in {}", size(end.bytes), count(end.files, "file")));
    page.raw("<details>\n");
    page.element("summary", "", &format!("Root {}{made}, {}{held}", old.id(), old.state.name()));
    page.raw("<table>\n<thead><tr><th class=\"number\">Size</th><th class=\"number\">Files</th><th>Path</th></tr></thead>\n<tbody>\n");
    let start = page.0.len();
    let rows = old.end.as_ref().map_or(&[][..], |end| end.rows.as_slice());
    let mut shown = 0_u64;
    for row in rows {
        page.raw("<tr>");
        page.element("td", "number", &size(row.bytes));
        page.element("td", "number", &number(row.files));
        page.raw("<td class=\"path\">");
        page.element("span", "name", &escape::name(row.path.bytes()));
        let words = format!("impctl recover --number {} {}", old.id(), escape::shell(row.path.bytes()));
        page.element("code", "keep", &words);
        page.raw("</td></tr>\n");
        shown += 1;
        if page.0.len() - start > TABLE / 4 {
            break;
        }
    }
    page.raw("</tbody>\n</table>\n");
    let all = old.end.as_ref().map_or(0, |end| end.rows_count);
    if all > shown {
        page.element("p", "more", &format!("{} more", number(all - shown)));
    }
    page.raw("</details>\n");
}

/// A random number for a browser to distinguish the page's script and style from text in names.
fn nonce() -> std::io::Result<String> {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}
