# The values of the example for home-manager in impermanence's documentation.
{
  imports = [
    ../disks.nix
    ../../home-manager.nix
  ];
  home-manager.users.bird.home.persistence."/persistent" = import ../home.nix;
}
