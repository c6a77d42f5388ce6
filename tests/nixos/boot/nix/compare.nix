# The same directories by imp-mount, nix-community/impermanence or nix-community/preservation, or none of them. The Nix store is
# mounted by fileSystems in all cases.
{ who, count }:
{
  lib,
  product,
  sources,
  ...
}:
let
  directories = [
    "/var/lib/nixos"
    "/var/log"
  ]
  ++ map (n: "/srv/data${toString n}") (lib.range 3 count);
in
{
  imports = [
    ./file-systems.nix
  ]
  ++ {
    nothing = [ ];
    imp-mount = [
      product
      {
        imp-mount.enable = true;
        environment.persistence."/persist" = { inherit directories; };
      }
    ];
    impermanence = [
      "${sources}/impermanence/nixos.nix"
      { environment.persistence."/persist" = { inherit directories; }; }
    ];
    preservation = [
      "${sources}/preservation/module.nix"
      {
        preservation.enable = true;
        preservation.preserveAt."/persist".directories = [
          {
            directory = "/var/lib/nixos";
            inInitrd = true;
          }
        ]
        ++ lib.tail directories;
      }
    ];
  }
  .${who};
}
