# A user with an id unknown to the evaluation, and the user's entries.
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
