# /etc/machine-id, and places to mount files at below an /etc that cannot be written to.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.imp-mount;
  immutable = config.system.etc.overlay.enable && !config.system.etc.overlay.mutable;

  below = lib.filter (it: lib.hasPrefix "/etc/" it.target && it.phase != "boot") cfg.entries;
  name = it: lib.removePrefix "/etc/" it.target;
  # NixOS has one of its own for the machine-id.
  files = lib.filter (it: it.kind == "file" && it.target != "/etc/machine-id") below;
  directories = lib.filter (it: it.kind == "directory") below;
  weak = lib.mkOverride 1400;
  hasMachineId = lib.any (it: it.target == "/etc/machine-id") cfg.entries;
in
{
  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      (lib.mkIf immutable {
        environment.etc =
          lib.listToAttrs (
            map (
              it:
              lib.nameValuePair (name it) (weak {
                text = "";
                mode = "0600";
              })
            ) files
          )
          // lib.listToAttrs (
            map (
              it:
              lib.nameValuePair "${name it}/.imp-mount" (weak {
                text = "";
              })
            ) directories
          );
      })
      {
        # It puts what PID 1 made up on the first boot into the file below, and takes any mount for that: in the initrd there is
        # nothing to do yet, and on later boots it would fail.
        boot.initrd.systemd.suppressedUnits = lib.mkIf hasMachineId [ "systemd-machine-id-commit.service" ];
        # With an immutable /etc NixOS says so itself. A package has the drop-in, so that it goes with a host's own; an element of
        # systemd.services would also take five times as much to evaluate. The number of packages must not depend on the entries.
        systemd.packages = lib.optional (!immutable) (
          pkgs.writeTextDir "lib/systemd/system/systemd-machine-id-commit.service.d/imp-mount.conf" (
            lib.optionalString hasMachineId "[Unit]\nConditionFirstBoot=true\n"
          )
        );
        # On the first boot PID 1 takes its own tmpfs over the file for the mount. When that is gone, the mount is one that it
        # leaves alone at shutdown; learning this in the midst of a shutdown, it would forget what waits for the unmounting, and
        # wait for ever (systemd 257 to 262). The names of units must not depend on the entries.
        systemd.units."etc-machine\\x2did.mount" = {
          overrideStrategy = "asDropin";
          text = lib.optionalString hasMachineId "[Unit]\nDefaultDependencies=no\n";
        };
      }
    ]
  );
}
