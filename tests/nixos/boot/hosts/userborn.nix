# Users by userborn, their files on the store.
{
  imports = [ ./store.nix ];
  imp-mount.enable = true;
  services.userborn.enable = true;
  services.userborn.passwordFilesLocation = "/var/lib/nixos";
  environment.persistence."/persist".directories = [
    "/nix"
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
  # A user more, and with it other ids, were they not kept.
  specialisation.more.configuration = {
    users.users.abe = {
      isSystemUser = true;
      group = "abe";
    };
    users.groups.abe = { };
    environment.persistence."/persist".directories = [
      {
        directory = "/var/lib/abe";
        user = "abe";
        group = "abe";
      }
    ];
  };
}
