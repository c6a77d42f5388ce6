# Paths named by a user's own home-manager configuration.
{ pkgs, sources, ... }:
let
  # A stand-in for Nix: home-manager's activation hardly needs more than its links. One package: home-manager looks for the
  # folder of nix-env.
  nix = pkgs.runCommand "nix" { } ''
    mkdir -p $out/bin
    cd $out/bin
    echo '#!${pkgs.runtimeShell}' | tee nix-build nix-env nix-store
    echo 'mkdir -p ~/.local/state/nix/profiles' >> nix-env
    cat >> nix-store <<- 'END'
    [[ $1 == --realise && $3 == --add-root ]] || exit 1
    mkdir -p "''${4%/*}"
    ln -sfn "$2" "$4"
    END
    chmod +x *
  '';
in
{
  imports = [
    ./store.nix
    "${sources}/home-manager/nixos"
  ];
  imp-mount.enable = true;
  environment.persistence."/persist".directories = [
    "/nix"
    "/var/lib/nixos"
  ];
  environment.systemPackages = [ nix ];
  home-manager.useGlobalPkgs = true;
  home-manager.useUserPackages = true;
  home-manager.users.ada =
    { config, lib, ... }:
    {
      home.stateVersion = "26.05";
      home.enableNixpkgsReleaseCheck = false;
      manual.manpages.enable = false;
      programs.man.enable = false;
      xdg.enable = true;
      xdg.mime.enable = false;
      # Links of home-manager's own, one of them beside a persistent directory.
      home.file.".linked".text = "linked";
      xdg.dataFile."linked".text = "linked";
      home.persistence."/persist" = {
        directories = [
          "Documents"
          "${lib.removePrefix config.home.homeDirectory config.xdg.dataHome}/app"
        ];
        files = [ ".screenrc" ];
      };
    };
}
