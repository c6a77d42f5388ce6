# Inputs of `nixos-anywhere --vm-test` for the example host: the name of the installed system, with its whole closure. `disko` is
# its source. The installing machine is not checked: it has no part of this module.
{ nixpkgs, disko }:
let
  example = ../../nixos-module/examples/cassie-box;
  inherit
    (import ./host.nix { inherit nixpkgs; } [
      (disko + "/module.nix")
      example
      (example + "/disko.nix")
    ])
    config
    ;
  script = config.system.build.installTest.config.testScript {
    nodes = throw "the machine that installs was looked at";
  };
in
builtins.head (builtins.match ".*--set [^ ]*/[a-z0-9]*-(nixos-system-[a-z-]*)-.*" script)
