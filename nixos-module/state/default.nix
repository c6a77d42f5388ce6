# What is known to hold state, by group: what `imp-mount.persist.<group>` persists, and what the audit knows by name.
#
# A row is { directory | file, user, group, mode, why, ... }, all but the path and `why` optional:
#   parts   what of a directory the audit looks for, when the whole is not named: { path, why }
#   audited false: made anew from something else, so that nothing is lost without it
#   chosen  true: whoever names something inside has chosen, and the audit is content
#
# What a preset reads of these (all but `parts`) must not read `systemd.services` or anything else that depends on what persists.
# File systems that entries lie on are marked `neededForBoot`, which decides about units of file systems such as bcachefs
# (nixos/modules/tasks/filesystems). So the names in `systemd.services` depend on `fileSystems.*.neededForBoot`, and that on the
# entries: a preset that looked for StateDirectory= in the units would wait for itself. Therefore presets go by the options of
# `services`, `users` and the like, and only the audit, on which nothing depends but warnings and assertions, reads the units
# (audit/units.nix). Of `fileSystems` a preset may read mountPoint, fsType and device.
{ config, lib }:
let
  paths = import ../paths.nix;
  normal = row: row // lib.optionalAttrs (row ? directory) { directory = paths.join [ row.directory ]; };
in
lib.genAttrs [
  "essentials"
  "logs"
  "services"
  "homes"
  "containers"
] (group: map normal (import ./${group}.nix { inherit config lib; }))
