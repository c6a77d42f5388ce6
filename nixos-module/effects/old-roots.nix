# Roots of earlier boots: saved at shutdown, removed in the background.
{ config, lib, ... }:
let
  cfg = config.imp-mount;
  old = cfg.oldRoots;
  paths = import ../paths.nix;
  service = import ./service.nix;

  impctl = "${cfg.package}/bin/impctl roots";
  documentation = [ "man:impctl-roots(8)" ];
  stores = map (store: paths.quote store.path) cfg.plan.stores;
in
{
  config = lib.mkMerge [
    # For a root on a store this service records the end of the boot, also without old roots.
    (lib.mkIf (cfg.enable && (old.enable || cfg.plan.onStore)) {
      # Active from early boot: stopped after the services and before the file systems.
      systemd.services.imp-mount-save = lib.mkMerge [
        service
        {
          inherit documentation;
          description = "Save What the Root Would Lose";
          wantedBy = [ "sysinit.target" ];
          after = [
            "local-fs.target"
            "imp-mount-live.service"
          ];
          # Stopped after imp-mount-adopt: files copied to a store are not lost.
          before = [
            "imp-mount-adopt.service"
            "sysinit.target"
          ];
          unitConfig.WantsMountsFor = stores;
          # Stopped by shutdown.target alone: the record of a boot's end must not be there while the system goes on.
          unitConfig.RefuseManualStop = true;
          unitConfig.IgnoreOnIsolate = true;
          serviceConfig.RemainAfterExit = true;
          serviceConfig.ExecStop = "${impctl} save --shutdown";
          # The command itself stops after saveSeconds. A kill loses this save only.
          serviceConfig.TimeoutStopSec = "${toString (old.saveSeconds + 10)}s";
          serviceConfig.TimeoutStopFailureMode = "kill";
        }
      ];
    })
    # A root on a store is on a disk all the time.
    (lib.mkIf (cfg.enable && old.enable && old.every != null && !cfg.plan.onStore) {
      systemd.services.imp-mount-save-now = {
        inherit documentation;
        description = "Save What the Root Would Lose While the System Runs";
        # Stopped before the last save.
        after = [ "imp-mount-save.service" ];
        restartIfChanged = false;
        unitConfig.WantsMountsFor = stores;
        serviceConfig = service.serviceConfig // {
          ExecStart = "${impctl} save";
          TimeoutStartSec = "${toString (old.saveSeconds + 10)}s";
          TimeoutStopSec = "10s";
          IOSchedulingClass = "idle";
          CPUSchedulingPolicy = "idle";
          Nice = 19;
        };
      };
      systemd.timers.imp-mount-save-now = {
        description = "Save What the Root Would Lose Now and Then";
        wantedBy = [ "timers.target" ];
        timerConfig = {
          OnBootSec = "${toString old.every}min";
          OnUnitInactiveSec = "${toString old.every}min";
        };
      };
    })
    (lib.mkIf (cfg.enable && (old.enable || cfg.plan.onStore)) {
      systemd.services.imp-mount-prune = {
        inherit documentation;
        description = "Remove Old Roots";
        restartIfChanged = false;
        unitConfig.WantsMountsFor = stores;
        serviceConfig = service.serviceConfig // {
          ExecStart = "${impctl} prune";
          # A later run goes on.
          TimeoutStopSec = "10s";
          IOSchedulingClass = "idle";
          CPUSchedulingPolicy = "idle";
          Nice = 19;
          # Subvolumes and flags. No mount namespace: mounts below an old root stay. No RestrictSUIDSGID, which blocks openat2(2).
          CapabilityBoundingSet = "CAP_SYS_ADMIN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_LINUX_IMMUTABLE";
          RestrictNamespaces = true;
          RestrictRealtime = true;
          SystemCallFilter = "~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap";
        };
      };
      systemd.timers.imp-mount-prune = {
        description = "Remove Old Roots in the Background";
        wantedBy = [ "timers.target" ];
        timerConfig = {
          OnBootSec = "5min";
          OnUnitInactiveSec = "1d";
        };
      };
    })
  ];
}
