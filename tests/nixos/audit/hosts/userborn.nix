# Files of userborn on a store, in a directory that persists.
{
  imports = [ ../quiet.nix ];
  services.userborn = {
    enable = true;
    passwordFilesLocation = "/persist/users";
  };
  users.mutableUsers = true;
  users.users.ada.isNormalUser = true;
  imp-mount.persist.homes = true;
}
