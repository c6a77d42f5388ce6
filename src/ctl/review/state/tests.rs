#![allow(clippy::unwrap_used)]

use super::super::tree::tests::finding;
use super::*;

const NOW: i64 = 1_000_000;

fn state() -> State {
    let list = vec![
        finding("/var/lib/plex/", 3 << 20, NOW - 7200),
        finding("/var/lib/y/", 9 << 20, NOW - 86_400),
        finding("/etc/x\u{1b}[31m.conf", 4096, NOW),
    ];
    State::new(Tree::new(list, Order::Size), Book::default(), NOW)
}

fn text(state: &mut State, width: usize, height: usize) -> Vec<String> {
    state.screen(width, height).into_iter().map(|line| line.text).collect()
}

fn keys(state: &mut State, keys: &str) -> Todo {
    keys.chars().map(|c| state.key(if c == '\n' { Key::Enter } else { Key::Char(c) })).last().unwrap()
}

#[test]
fn the_screen_at_80_columns() {
    let mut state = state();
    let lines = text(&mut state, 80, 12);
    assert_eq!(
        lines,
        [
            "impctl review: 13M would be gone, largest first; 0 answers",
            "  ANSWER   SIZE   CHANGED  WOULD BE GONE",
            ">           12M       2 h  - /var/lib/",
            "           9.0M     1 day    + y/  x.service",
            "           3.0M       2 h    + plex/  x.service",
            "           4.0K       now    /etc/x\\u{1b}[31m.conf  x.service",
            "",
            "",
            "",
            "/var/lib/",
            "",
            "? help  q quit  w write  k keep  n now  t throw away  l look  u undo  b about",
        ]
    );
    // A narrow terminal shows the keys for help and to leave.
    for (width, keys) in [(24, "? help  q quit  w write"), (20, "? help  q quit"), (5, "")] {
        assert_eq!(text(&mut state, width, 12)[11], keys);
    }
    for (width, height) in [(80, 24), (40, 10), (1, 1), (0, 0), (20, 3), (300, 100)] {
        for mode in ["", "?", "b", "k", "\u{e}t"] {
            keys(&mut state, &format!("\u{10}{mode}"));
            let lines = text(&mut state, width, height);
            assert_eq!(lines.len(), height, "{width} {height} {mode:?}");
            assert!(lines.iter().all(|line| line.width() <= width && !line.contains(escape::is_hidden)));
            state.key(Key::Escape);
        }
    }
}

#[test]
fn keys_give_answers() {
    let mut state = state();
    assert_eq!(keys(&mut state, "k"), Todo::Nothing);
    assert!(state.message.contains("open it"));
    keys(&mut state, "\u{e}tcache \u{1b}x");
    assert!(text(&mut state, 80, 12)[10].starts_with("Why may it be lost? cache x_"));
    state.key(Key::Backspace);
    state.key(Key::Enter);
    keys(&mut state, "k");
    let lines = text(&mut state, 80, 12);
    assert!(lines[3].starts_with("  away     9.0M"), "{lines:?}");
    assert!(lines[4].starts_with("  keep     3.0M"), "{lines:?}");
    assert!(lines[5].starts_with(">          4.0K"), "{lines:?}");
    assert!(lines[0].ends_with("2 answers"));
    // A reason is needed.
    keys(&mut state, "\u{10}\u{10}t\n");
    assert!(text(&mut state, 80, 12)[10].starts_with("Why may it be lost?"));
    state.key(Key::Escape);
    keys(&mut state, "u");
    assert_eq!(state.book.len(), 1);
    keys(&mut state, "d");
    assert_eq!(state.book.len(), 0);
    keys(&mut state, "uu");
    keys(&mut state, "u");
    assert_eq!(state.message, "there is nothing to undo");
}

#[test]
fn keys_open_order_and_leave() {
    let mut state = state();
    assert_eq!(state.key(Key::Left), Todo::Nothing);
    assert_eq!(state.tree.visible().len(), 2);
    state.key(Key::Right);
    state.key(Key::Right);
    let y = state.here().unwrap();
    assert_eq!(state.key(Key::Right), Todo::Load(y));
    state.tree.load(y, vec![finding("/var/lib/y/a", 1, 1), finding("/var/lib/y/b/", 2, 1)]);
    state.open(y);
    assert_eq!(state.tree.visible().len(), 6);
    state.key(Key::End);
    state.key(Key::Home);
    state.key(Key::Down);
    keys(&mut state, "o");
    assert_eq!(state.here(), Some(y), "the cursor stays where it was");
    assert!(text(&mut state, 80, 24)[0].contains("newest first"));
    assert_eq!(keys(&mut state, "q"), Todo::Leave);
    keys(&mut state, "k");
    assert_eq!(keys(&mut state, "q"), Todo::Nothing);
    assert!(text(&mut state, 80, 24)[22].starts_with("Answers are not written."), "asked first");
    assert_eq!(keys(&mut state, "x"), Todo::Nothing);
    assert_eq!(
        (keys(&mut state, "qw"), keys(&mut state, "qd"), keys(&mut state, "w")),
        (Todo::Write, Todo::Leave, Todo::Write)
    );
}

#[test]
fn texts_that_do_not_fit() {
    assert_eq!(cut("\u{4e2d}\u{4e2d}", 3), "\u{4e2d}");
    assert_eq!(keep_end("/a/long/path", 8), ".../path");
    assert_eq!(wrap("abcdefghijklmnopqrstuvwxyz", 20), ["abcdefghijklmnopqrst", "uvwxyz"]);
}
