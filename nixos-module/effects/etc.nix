# /etc/machine-id, and mount points of files below a read-only /etc.
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
        # The service writes the transient id of the first boot to the file below, and takes any mount on /etc/machine-id for a
        # transient id: in the initrd there is nothing to do yet, and on later boots the service would fail.
        boot.initrd.systemd.suppressedUnits = lib.mkIf hasMachineId [ "systemd-machine-id-commit.service" ];
        # With an immutable /etc NixOS sets this condition. The drop-in is in a package, so that a host's own drop-in stays; an
        # element of systemd.services would also take five times as much to evaluate. The number of packages must not depend on
        # the entries.
        systemd.packages = lib.optional (!immutable) (
          pkgs.writeTextDir "lib/systemd/system/systemd-machine-id-commit.service.d/imp-mount.conf" (
            lib.optionalString hasMachineId "[Unit]\nConditionFirstBoot=true\n"
          )
        );
        # On the first boot PID 1 counts its own tmpfs over the file as this mount unit. Once the tmpfs is gone, PID 1 leaves
        # the mount alone at shutdown; if PID 1 learns this during a shutdown, it drops the jobs that wait for the unmounting,
        # and waits for ever (systemd 257 to 262). The names of units must not depend on the entries.
        systemd.units."etc-machine\\x2did.mount" = {
          overrideStrategy = "asDropin";
          text = lib.optionalString hasMachineId "[Unit]\nDefaultDependencies=no\n";
        };
      }
    ]
  );
}
