# A user whose id is not known when the configuration is evaluated, and what the user owns.
{
  imp-mount.enable = true;
  environment.persistence."/persist".directories = [
    "/var/lib/nixos"
    {
      directory = "/var/lib/zoe";
      user = "zoe";
      group = "zoe";
      mode = "0750";
    }
  ];
  users.users.zoe = {
    isSystemUser = true;
    group = "zoe";
  };
  users.groups.zoe = { };
}
