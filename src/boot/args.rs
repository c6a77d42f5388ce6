//! Command line of imp-mount, parsed without a library to keep the binary in the initrd small.

use crate::manifest::Phase;
use crate::text::escape;

/// Default path of the manifest.
pub const MANIFEST: &str = "/etc/imp-mount/manifest";

/// Text of `--help`.
pub const HELP: &str = "\
Mount what persists over a tmpfs root: see imp-mount(8).

Usage: imp-mount [OPTION]...             build the root (initrd), or bring a running system in line
       imp-mount --check [OPTION]...     hold the manifest against the system; changes nothing
       imp-mount --plan [OPTION]...      say what a run would do; needs no privilege
       imp-mount --settle [OPTION]...    give owners to what was created before its users existed
       imp-mount --adopt [OPTION]...     bring changed copies and new files to the stores, before a shutdown

Options:
  --manifest FILE   the compiled manifest [default: /etc/imp-mount/manifest]
  --sysroot DIR     the root to work on [default: /sysroot in an initrd, else /]
  --phase PHASE     go no further than this phase: early, boot, etc, live
                    [default: live for the sysroot /, else etc]
  --cmdline FILE    read the kernel command line from here [default: /proc/cmdline]
  --guard           guard what is required and fails, too, and exit with 0: for a boot that nothing can stop
  --json            with --check and --plan: print JSON
  -v, --verbose     say more
  -q, --quiet       say only what is wrong
  -h, --help        print this
  -V, --version     print the version

On the kernel command line: imp-mount=off, imp-mount.skip=PATH[,PATH], imp-mount.check

Exit status: 0 done, or nothing to report; 1 something required failed, --check found a problem, --settle left
something waiting, or --adopt left something behind; 2 it could not run (usage, manifest, privilege).
";

/// The action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verb {
    /// Build the root, or bring the system in line.
    #[default]
    Mount,
    /// `--check`.
    Check,
    /// `--plan`.
    Plan,
    /// `--settle`.
    Settle,
    /// `--adopt`.
    Adopt,
    /// `--help`.
    Help,
    /// `--version`.
    Version,
}

/// A valid command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Cli {
    /// The action.
    pub verb: Verb,
    /// The compiled manifest.
    pub manifest: Option<String>,
    /// The root to work on.
    pub sysroot: Option<String>,
    /// The last phase.
    pub phase: Option<Phase>,
    /// File in place of /proc/cmdline.
    pub cmdline: Option<String>,
    /// Guards required entries after a failure, like optional ones.
    pub guard: bool,
    /// True if to print JSON.
    pub json: bool,
    /// True if to say more.
    pub verbose: bool,
    /// True to print problems only.
    pub quiet: bool,
}

impl Cli {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// Errors in them.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut this = Self::default();
        let mut verb = None;
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let (name, inline) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
                _ => (arg, None),
            };
            let takes_value = matches!(name.as_str(), "--manifest" | "--sysroot" | "--phase" | "--cmdline");
            if takes_value {
                let value = inline.or_else(|| args.next()).ok_or_else(|| format!("{name} needs a value"))?;
                match name.as_str() {
                    "--manifest" => this.manifest = Some(value),
                    "--sysroot" => this.sysroot = Some(value),
                    "--cmdline" => this.cmdline = Some(value),
                    _ => {
                        let phase = Phase::by_name(&value);
                        let unknown = || {
                            let shown = escape::name(&value);
                            format!("there is no phase `{shown}`: it is early, boot, etc or live")
                        };
                        this.phase = Some(phase.ok_or_else(unknown)?);
                    }
                }
                continue;
            }
            if inline.is_some() {
                return Err(format!("{} takes no value", escape::name(&name)));
            }
            let asked = match name.as_str() {
                "--check" => Verb::Check,
                "--plan" => Verb::Plan,
                "--settle" => Verb::Settle,
                "--adopt" => Verb::Adopt,
                "-h" | "--help" => Verb::Help,
                "-V" | "--version" => Verb::Version,
                "--json" => {
                    this.json = true;
                    continue;
                }
                "--guard" => {
                    this.guard = true;
                    continue;
                }
                "-v" | "--verbose" => {
                    this.verbose = true;
                    continue;
                }
                "-q" | "--quiet" => {
                    this.quiet = true;
                    continue;
                }
                _ => return Err(format!("there is no option `{}`", escape::name(&name))),
            };
            if verb.is_some_and(|verb| verb != asked) {
                return Err(
                    "only one of --check, --plan, --settle, --adopt, --help and --version goes".to_owned()
                );
            }
            verb = Some(asked);
        }
        this.verb = verb.unwrap_or_default();
        if this.json && !matches!(this.verb, Verb::Check | Verb::Plan) {
            return Err("--json goes with --check and --plan".to_owned());
        }
        if this.guard && this.verb != Verb::Mount {
            return Err("--guard goes with a run alone".to_owned());
        }
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(line: &str) -> Result<Cli, String> {
        Cli::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn both_ways_of_giving_a_value() {
        let one = parse("--manifest m --sysroot=/s --phase early --check --json").unwrap();
        assert_eq!(one.manifest.as_deref(), Some("m"));
        assert_eq!(one.sysroot.as_deref(), Some("/s"));
        assert_eq!((one.phase, one.verb, one.json), (Some(Phase::Early), Verb::Check, true));
        assert_eq!(parse("").unwrap().verb, Verb::Mount);
    }

    #[test]
    fn nonsense_is_named() {
        for (line, word) in [
            ("--manifest", "needs a value"),
            ("--phase late", "late"),
            ("--check --plan", "only one"),
            ("--check=yes", "takes no value"),
            ("--json", "goes with"),
            ("--guard --check", "goes with"),
            ("mount", "mount"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
