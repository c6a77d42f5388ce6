# Settings of every machine of the tests.
{
  boot.initrd.systemd.enable = true;
  boot.initrd.systemd.emergencyAccess = true;
  # Tests let unnamed paths be lost.
  imp-mount.audit.level = "off";
  users.users.ada = {
    isNormalUser = true;
    uid = 1000;
    homeMode = "0750";
  };
}
