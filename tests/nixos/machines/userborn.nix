# Users by userborn, their files on the store; and a user before them in the sort order.
{
  imports = [ ./users.nix ];
  services.userborn.enable = true;
  services.userborn.passwordFilesLocation = "/var/lib/nixos";
  specialisation.more.configuration = {
    users.users.abe = {
      isSystemUser = true;
      group = "abe";
    };
    users.groups.abe = { };
  };
}
