//! A terminal session as an animated picture: an SVG, by CSS alone. With reduced motion it shows the last screen.

use std::fmt::Write;
use std::time::Duration;

/// The terminal's size.
pub const COLUMNS: u16 = 96;
const ROWS: usize = 26;
/// The size of a character, and the margin.
const CELL: (f64, f64) = (8.0, 18.0);
const MARGIN: f64 = 16.0;
/// Seconds: the longest and the shortest wait for a line, before and after a command is typed, for each of its letters, and at the end.
const WAIT: (f64, f64) = (0.018, 0.35);
const BEFORE: f64 = 0.8;
const AFTER: f64 = 0.4;
const LETTER: f64 = 0.04;
const END: f64 = 8.0;

/// Output on a terminal, with the time since the start of the recording.
pub type Said = Vec<(Duration, String)>;

/// The style of a character, by the codes of ECMA-48.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Style {
    bold: bool,
    faint: bool,
    colour: u8,
}

/// A line of the screen.
#[derive(Debug, Default)]
struct Line {
    cells: Vec<(char, Style)>,
    /// When its first character came.
    at: f64,
}

impl Line {
    fn text(&self) -> String {
        self.cells.iter().map(|(letter, _)| *letter).collect::<String>().trim_end().to_owned()
    }
}

/// All lines shown by a terminal.
fn lines(said: &Said) -> Vec<Line> {
    let (mut lines, mut column, mut style) = (vec![Line::default()], 0, Style::default());
    for (time, text) in said {
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let last = lines.last_mut().unwrap();
            match letter {
                '\r' => column = 0,
                '\n' => {
                    lines.push(Line { at: time.as_secs_f64(), ..Line::default() });
                    column = 0;
                }
                '\x1b' if letters.next_if_eq(&'[').is_some() => {
                    let mut codes = String::new();
                    let end = loop {
                        match letters.next() {
                            Some(end @ '@'..='~') => break end,
                            Some(code) => codes.push(code),
                            None => break ' ',
                        }
                    };
                    if end == 'm' {
                        codes.split(';').for_each(|code| style = styled(style, code.parse().unwrap_or(0)));
                    } else if end == 'K' {
                        last.cells.truncate(column);
                    }
                }
                _ if letter.is_control() => {}
                _ => {
                    if column == usize::from(COLUMNS) {
                        lines.push(Line { at: time.as_secs_f64(), ..Line::default() });
                        column = 0;
                    }
                    let last = lines.last_mut().unwrap();
                    if last.cells.is_empty() {
                        last.at = time.as_secs_f64();
                    }
                    last.cells.resize(last.cells.len().max(column + 1), (' ', Style::default()));
                    last.cells[column] = (letter, style);
                    column += 1;
                }
            }
        }
    }
    while lines.last().is_some_and(|line| line.text().is_empty()) {
        lines.pop();
    }
    lines
}

fn styled(style: Style, code: u8) -> Style {
    match code {
        0 => Style::default(),
        1 => Style { bold: true, ..style },
        2 => Style { faint: true, ..style },
        22 => Style { bold: false, faint: false, ..style },
        30..=37 | 90..=97 => Style { colour: code, ..style },
        39 => Style { colour: 0, ..style },
        _ => style,
    }
}

/// The commands typed at a prompt, as a picture shows them.
pub fn commands(picture: &str, prompt: &str) -> Vec<String> {
    let text = |line: &str| {
        line.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text)).collect::<String>()
    };
    let command = |line: &str| Some(text(line).strip_prefix(prompt)?.trim().to_owned());
    picture.lines().filter_map(command).filter(|command| !command.is_empty()).collect()
}

/// The picture of a session. Commands after a prompt are typed letter by letter.
pub fn picture(said: &Said, (prompt, commands): (&str, &[&str]), title: &str) -> String {
    let lines = lines(said);
    // When each line is there, and the commands: their lines, when they begin, and their letters.
    let (mut shown, mut typed, mut now, mut last) = (Vec::new(), Vec::new(), 0.5, 0.0);
    for (index, line) in lines.iter().enumerate() {
        now += (line.at - last).clamp(WAIT.0, WAIT.1);
        last = line.at;
        shown.push(now);
        if let Some(command) = line.text().strip_prefix(prompt).filter(|command| commands.contains(command)) {
            let letters = command.chars().count();
            typed.push((index, now + BEFORE, letters));
            now += BEFORE + f64::from(u32::try_from(letters).unwrap()) * LETTER + AFTER;
        }
    }
    let length = now + END;
    let percent = |seconds: f64| format!("{:.3}%", 100.0 * seconds / length);
    let width = f64::from(COLUMNS) * CELL.0 + 2.0 * MARGIN;
    let rows = |count: usize| f64::from(u32::try_from(count).unwrap()) * CELL.1;
    let height = rows(ROWS) + 2.0 * MARGIN;

    let (mut scroll, mut cover) = (String::new(), String::new());
    for (index, time) in shown.iter().enumerate() {
        let place = |frames: &mut String, y: f64| {
            let _ = write!(frames, "{}{{transform:translateY({y}px)}}", percent(*time));
        };
        place(&mut cover, rows(index + 1));
        if index + 1 > ROWS {
            place(&mut scroll, -rows(index + 1 - ROWS));
        }
    }
    // The first loop begins with a full screen.
    let begin = shown.get(ROWS).copied().unwrap_or(0.0);
    let mut css = format!(
        "text{{font:13.2px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#d6dde6;white-space:pre}}\
         .p{{fill:#8bd49c}}.b{{font-weight:700}}.f{{opacity:.65}}.c33{{fill:#e5c07b}}.c32{{fill:#8bd49c}}.c31{{fill:#f07178}}\
         #s,#c,.t{{animation:{length:.2}s step-end -{begin:.2}s infinite}}#s{{animation-name:s}}#c{{animation-name:c}}\n\
         @keyframes s{{0%{{transform:none}}{scroll}}}\n@keyframes c{{0%{{transform:none}}{cover}}}\n"
    );
    let mut covers = String::new();
    for (number, (line, time, letters)) in typed.iter().enumerate() {
        let (end, across) = (time + f64::from(u32::try_from(*letters).unwrap()) * LETTER, width);
        let _ = writeln!(
            css,
            "#t{number}{{animation-name:t{number}}}@keyframes t{number}{{0%{{transform:none}}{}{{transform:none;\
             animation-timing-function:steps({letters})}}{},to{{transform:translateX({}px)}}}}",
            percent(*time),
            percent(end),
            f64::from(u32::try_from(*letters).unwrap()) * CELL.0,
        );
        let left = MARGIN + f64::from(u32::try_from(prompt.len()).unwrap()) * CELL.0;
        let _ = writeln!(
            covers,
            "<rect class=\"t\" id=\"t{number}\" x=\"{left}\" y=\"{}\" width=\"{across}\" height=\"{}\" fill=\"#12161c\" opacity=\"0\"/>",
            MARGIN + rows(*line),
            CELL.1
        );
    }
    // Without animations the covers are not there, and the last screen is.
    css += "@media (prefers-reduced-motion:no-preference){.t,#c{opacity:1}}\
            @media (prefers-reduced-motion:reduce){*{animation:none!important}}\n";
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        write_line(&mut text, line, MARGIN + rows(index) + 13.5, prompt);
    }
    let scrolled = -rows(lines.len().saturating_sub(ROWS));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n\
         <title>{}</title>\n<style>{css}</style>\n<clipPath id=\"w\"><rect y=\"{}\" width=\"{width}\" height=\"{}\"/></clipPath>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"10\" fill=\"#12161c\"/>\n<g clip-path=\"url(#w)\"><g id=\"s\" transform=\"translate(0 {scrolled})\">\n\
         {text}{covers}<rect id=\"c\" y=\"{MARGIN}\" width=\"{width}\" height=\"{}\" fill=\"#12161c\" opacity=\"0\"/>\n</g></g>\n</svg>\n",
        escape(title),
        MARGIN,
        rows(ROWS),
        rows(lines.len() + ROWS),
    )
}

/// A line as runs of the same style, each as wide as its cells in whatever font there is.
fn write_line(text: &mut String, line: &Line, y: f64, prompt: &str) {
    let is_command = line.text().starts_with(prompt.trim_end());
    let length = line.text().chars().count();
    let mut start = 0;
    while start < length {
        let style = line.cells[start].1;
        let mut end = (start..length).find(|index| line.cells[*index].1 != style).unwrap_or(length);
        let in_prompt = is_command && start == 0;
        if in_prompt {
            end = end.min(prompt.trim_end().len());
        }
        let run: String = line.cells[start..end].iter().map(|(letter, _)| *letter).collect();
        let colour = if style.colour > 0 { format!("c{} ", style.colour) } else { String::new() };
        let class = format!(
            "{colour}{}{}{}",
            if style.bold { "b " } else { "" },
            if style.faint { "f " } else { "" },
            if in_prompt { "p" } else { "" }
        );
        let (x, wide) = (cells(start), cells(end - start));
        let _ = write!(
            text,
            "<text x=\"{}\" y=\"{y}\" textLength=\"{wide}\" class=\"{}\">{}</text>",
            MARGIN + x,
            class.trim_end(),
            escape(&run)
        );
        start = end;
    }
    text.push('\n');
}

fn cells(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap()) * CELL.0
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
