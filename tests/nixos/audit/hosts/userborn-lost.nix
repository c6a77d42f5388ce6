# Files of userborn on the root.
{ lib, ... }:
{
  imports = [ ./userborn.nix ];
  services.userborn.passwordFilesLocation = lib.mkForce "/data/users";
  # The names of NixOS's own users change.
  environment.persistence."/persist".enableWarnings = false;
}
