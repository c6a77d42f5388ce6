# Files audited in the build of a host, and the arguments of the audit.
{ lib }:
config: {
  parts = import ./parts.nix { inherit lib; } config // {
    # The script for /etc contains all of its files.
    activate = lib.concatMapStrings (it: it.text or it + "\n") (
      lib.attrValues (
        removeAttrs config.system.activationScripts [
          "etc"
          "script"
        ]
      )
    );
  };
  inherit (config.imp-mount) manifest;
  letGo = map (it: it.path) (config.imp-mount.audit.ignore ++ config.imp-mount.audit.findings);
}
