# What makes a machine the same machine after a boot.
{ config, lib }:
let
  inherit (config) networking services users;
  ssh = services.openssh;
  # The files of secrets that are decrypted before anything else runs; sops-nix and agenix need not be there.
  keys = lib.unique (
    lib.optional (config.sops.age.keyFile or null != null) config.sops.age.keyFile
    ++ config.sops.age.sshKeyPaths or [ ]
    ++ config.age.identityPaths or [ ]
  );
  hostKeys = lib.optionals (ssh.enable && ssh.generateHostKeys or true) (map (key: key.path) ssh.hostKeys);

  network = lib.optional networking.dhcpcd.enable {
    directory = "/var/lib/dhcpcd";
    user = "dhcpcd";
    group = "dhcpcd";
    why = "what DHCP servers know the machine by";
  };
  persistentTimers = lib.filterAttrs (
    _: timer:
    lib.elem (timer.timerConfig.Persistent or false) [
      true
      "true"
      "yes"
    ]
  ) config.systemd.timers;
in
lib.optional (!config.fileSystems ? "/nix/store") {
  directory = "/nix";
  why = "the Nix store: the system itself";
}
++ [
  {
    directory = "/var/lib/nixos";
    why = "which number each user and group has";
  }
  {
    directory = "/var/lib/systemd";
    why = "the random seed, when timers last ran, the key of credentials";
    parts = [
      {
        path = "/var/lib/systemd/random-seed";
        why = "the random seed";
      }
    ]
    ++ lib.optional (persistentTimers != { }) {
      path = "/var/lib/systemd/timers";
      why = "when timers last ran: ${lib.concatStringsSep ", " (lib.attrNames persistentTimers)}";
    }
    ++ lib.optional services.timesyncd.enable {
      path = "/var/lib/systemd/timesync";
      why = "the time, where the machine has no clock";
    };
  }
  {
    file = "/etc/machine-id";
    why = "what the journal and DHCP know the machine by";
  }
]
++ map (file: {
  inherit file;
  why = "the key that SSH clients know the machine by";
}) hostKeys
++ map (file: {
  file = "${file}.pub";
  why = "the public half of a host key";
  audited = false;
}) hostKeys
++ map (file: {
  inherit file;
  why = "the key that secrets are decrypted with";
}) (lib.subtractLists hostKeys keys)
++ lib.optional (config.boot.lanzaboote.enable or false) {
  directory = config.boot.lanzaboote.pkiBundle;
  mode = "0700";
  why = "the keys of Secure Boot";
}
++ network
++ lib.optionals networking.networkmanager.enable [
  {
    directory = "/etc/NetworkManager/system-connections";
    mode = "0700";
    why = "the networks that NetworkManager knows";
  }
  {
    directory = "/var/lib/NetworkManager";
    why = "what NetworkManager knows of its networks";
  }
]
++ lib.optional networking.wireless.iwd.enable {
  directory = "/var/lib/iwd";
  mode = "0700";
  why = "the networks that iwd knows";
}
++ lib.optional config.hardware.bluetooth.enable {
  directory = "/var/lib/bluetooth";
  mode = "0700";
  why = "paired devices";
}
++ lib.optional (config.hardware.alsa.enablePersistence or false) {
  directory = "/var/lib/alsa";
  why = "the volume of sound cards";
}
++ lib.optional (config.security.sudo.enable && !lib.hasInfix "lecture" config.security.sudo.extraConfig) {
  directory = "/var/db/sudo/lectured";
  mode = "0700";
  why = "whom sudo has lectured";
}
