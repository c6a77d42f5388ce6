# The running system: changes at a switch, delayed owners, and copies to the stores at shutdown.
{
  config,
  lib,
  ...
}:
let
  cfg = config.imp-mount;
  inherit (cfg) plan;
  paths = import ../paths.nix;
  command = "${cfg.package}/bin/imp-mount";

  emergency = config.systemd.enableEmergencyMode;

  # Services that create users; the activation script creates them before any service.
  users = [
    "userborn.service"
    "systemd-sysusers.service"
  ];

  mountsOf = map (fs: paths.quote fs.mountPoint);

  service = import ./service.nix;
in
{
  config = lib.mkMerge [
    {
      # Other modules order their own scripts after these two, also where imp-mount is switched off.
      system.activationScripts = {
        createPersistentStorageDirs = {
          deps = [
            "users"
            "groups"
          ];
          text = "";
        };
        persist-files = {
          deps = [ "createPersistentStorageDirs" ];
          text = "";
        };
      };
    }
    (lib.mkIf (cfg.enable && cfg.metrics.enable) {
      # Existing files stay as they are.
      systemd.tmpfiles.settings.imp-mount-metrics.${dirOf cfg.metrics.file}.d = {
        mode = ":0755";
        user = ":root";
        group = ":root";
      };
      systemd.services.imp-mount-metrics = {
        description = "Write Metrics of What Persists";
        documentation = [ "man:impctl-status(8)" ];
        startAt = "minutely";
        serviceConfig = service.serviceConfig // {
          ExecStart = "${cfg.package}/bin/impctl status --metrics --output ${
            builtins.replaceStrings [ "$" ] [ "$$" ] (paths.quote cfg.metrics.file)
          }";
          TimeoutStartSec = "1min";
          # The metrics report the problem.
          SuccessExitStatus = 1;
          CapabilityBoundingSet = "CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH";
        };
      };
    })
    (lib.mkIf cfg.enable {
      environment.systemPackages = [ cfg.package ];
      environment.etc."imp-mount/manifest".source = cfg.compiled;
      # Its counterpart in the initrd is in initrd.nix.
      systemd.generators.imp-mount-generator = command;

      systemd.services = {
        # At a switch. sysinit-reactivation.target is not part of a boot, so a failure here never stops one.
        imp-mount = lib.mkMerge [
          service
          {
            description = "Bring What Persists in Line with the Configuration";
            wantedBy = [ "sysinit-reactivation.target" ];
            before = [
              "sysinit-reactivation.target"
              "systemd-tmpfiles-resetup.service"
            ]
            ++ users;
            # Not after local-fs.target, which the managers of users come before. A switch mounts new file systems later than this.
            unitConfig.WantsMountsFor = mountsOf plan.later;
            serviceConfig.ExecStart = command;
          }
        ];

        # At boot: entries on file systems that the initrd does not mount, and all entries where there is no initrd. Wanted by a
        # service that no switch starts again: a failure opens the emergency shell at boot, and never stops a running system.
        # Without such a shell, failed entries are guarded and the boot continues; without a guard the system would halt. Always
        # defined: the names of services must not depend on the entries.
        imp-mount-live = lib.mkMerge [
          service
          {
            description = "Mount What Persists on Late File Systems";
            wantedBy = lib.optional plan.live "systemd-tmpfiles-setup.service";
            after = [ "local-fs.target" ];
            before = [
              "systemd-tmpfiles-setup.service"
              "sysinit.target"
            ];
            unitConfig = {
              WantsMountsFor = mountsOf plan.later;
              OnFailure = if emergency then "emergency.target" else "halt.target";
              OnFailureJobMode = "replace-irreversibly";
            };
            serviceConfig.ExecStart = command + lib.optionalString (!emergency) " --guard";
            serviceConfig.RemainAfterExit = true;
          }
        ];

        imp-mount-settle = lib.mkMerge [
          service
          {
            description = "Give Owners to What Was Created Before Its Users";
            wantedBy = [
              "sysinit.target"
              "sysinit-reactivation.target"
            ];
            after = [
              "imp-mount.service"
              "imp-mount-live.service"
            ]
            ++ users;
            before = [
              "sysinit.target"
              "sysinit-reactivation.target"
              "systemd-tmpfiles-setup.service"
              "systemd-tmpfiles-resetup.service"
            ];
            serviceConfig.ExecStart = "${command} --settle";
          }
        ];

        # Active from early boot: stopped after the services and before the file systems.
        imp-mount-adopt = lib.mkMerge [
          service
          {
            description = "Bring New and Changed Files to What Persists";
            wantedBy = [ "sysinit.target" ];
            after = [
              "local-fs.target"
              "imp-mount-live.service"
            ];
            before = [ "sysinit.target" ];
            unitConfig.WantsMountsFor = map (store: paths.quote store.path) plan.stores;
            serviceConfig.RemainAfterExit = true;
            serviceConfig.ExecStop = "${command} --adopt";
            # Files not copied within this time are lost.
            serviceConfig.TimeoutStopSec = "10min";
          }
        ];
      };

      system.activationScripts = lib.mkMerge [
        # Without an initrd nothing comes before activation but itself.
        (lib.mkIf (!config.boot.initrd.enable) {
          imp-mount = {
            deps = [ "specialfs" ];
            text = "${command} --manifest ${cfg.compiled}";
          };
        })
        # If userborn makes the users, their ids have to be there.
        (lib.mkIf
          (!config.boot.initrd.enable && !config.services.userborn.enable && !config.systemd.sysusers.enable)
          {
            users.deps = [ "imp-mount" ];
          }
        )
      ];
    })
  ];
}
