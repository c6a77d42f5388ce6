# Runs the script of a scenario once multi-user.target is reached, and powers off. The initrd's emergency shell prints the journal
# and powers off.
{ pkgs, ... }:
let
  emergency = pkgs.writeShellScript "emergency" ''
    echo EMERGENCY
    systemctl --failed --plain --no-legend
    journalctl -b -q --no-pager -o short-monotonic -n 80
    [ ! -e /run/in-emergency ] || . /run/in-emergency
    sync
    systemctl --force --force poweroff
  '';
in
{
  systemd.services.probe = {
    wantedBy = [ "multi-user.target" ];
    # A switch before the commit would lose the id of a first boot with a read-only /etc.
    after = [
      "multi-user.target"
      "systemd-machine-id-commit.service"
    ];
    restartIfChanged = false;
    stopIfChanged = false;
    unitConfig.ConditionPathExists = "/run/probe";
    serviceConfig = {
      Type = "oneshot";
      Environment = "PATH=/run/wrappers/bin:/run/current-system/sw/bin HOME=/root";
      ExecStart = "-${pkgs.bash}/bin/bash /run/probe";
      # Refused where the script has ordered a reboot.
      ExecStartPost = "-${pkgs.systemd}/bin/systemctl --no-block poweroff";
    };
  };

  boot.initrd.systemd.services.emergency = {
    overrideStrategy = "asDropin";
    serviceConfig = {
      ExecStartPre = [ "" ];
      ExecStart = [
        ""
        "${emergency}"
      ];
      StandardInput = "null";
      StandardOutput = "file:/dev/console";
      StandardError = "file:/dev/console";
    };
  };
  boot.initrd.systemd.storePaths = [ emergency ];
  boot.initrd.systemd.extraBin.journalctl = "${pkgs.systemd}/bin/journalctl";

  # Logins on the console would read from the console.
  systemd.generators.systemd-getty-generator = "/dev/null";
  systemd.services."getty@tty1".enable = false;
}
