# The identity of a machine across boots, from the values of options.
{
  config,
  lib,
  known,
}:
let
  inherit (config) networking services users;
  paths = import ../paths.nix;
  ssh = services.openssh;

  # A file that must outlive a boot: neither made at every boot nor in the Nix store.
  isOwn =
    file:
    builtins.isString file
    && lib.hasPrefix "/" file
    && !lib.any (above: paths.isIn above file) [
      builtins.storeDir
      "/run"
      "/dev"
      "/proc"
      "/sys"
      "/tmp"
    ];
  own = files: lib.unique (lib.filter isOwn files);

  homes = lib.filter (user: user.isNormalUser && user.enable or true) (lib.attrValues users.users);
  # A file in a home and its parent directories belong to the home's user.
  inHome =
    file:
    let
      user = lib.findFirst (user: paths.isIn user.home file) null homes;
    in
    if user != null then
      {
        inherit (user) home group;
        user = user.name;
      }
    else
      lib.optionalAttrs (paths.isIn "/root" file) {
        home = "/root";
        user = "root";
        group = "root";
      };
  secret =
    why: file:
    {
      inherit file why;
      class = "key";
      mode = "0600";
    }
    // inHome file;

  # sops-nix and agenix need not be there.
  keys = own (
    lib.optional (config.sops.age.keyFile or null != null) config.sops.age.keyFile
    ++ config.sops.age.sshKeyPaths or [ ]
    ++ config.sops.gnupg.sshKeyPaths or [ ]
    ++ config.age.identityPaths or [ ]
  );
  gnupg = config.sops.gnupg.home or null;
  hostKeys = lib.optionals (ssh.enable && ssh.generateHostKeys or true) (
    map (key: key.path) ssh.hostKeys
  );

  # Read by every nixos-rebuild, which puts them into the initrd.
  initrd = config.boot.initrd;
  ofInitrd = own (
    lib.filter (it: it != null) (lib.attrValues initrd.secrets)
    ++ lib.optionals (initrd.network.enable && initrd.network.ssh.enable) initrd.network.ssh.hostKeys
  );
  wireguard =
    lib.attrValues networking.wireguard.interfaces ++ lib.attrValues networking.wg-quick.interfaces;
  ofWireguard = own (
    lib.concatMap (
      it: [ (it.privateKeyFile or null) ] ++ map (peer: peer.presharedKeyFile or null) (it.peers or [ ])
    ) wireguard
    ++ map (it: it.wireguardConfig.PrivateKeyFile or null) (
      lib.attrValues config.systemd.network.netdevs
    )
  );
  ofNix = own (
    lib.toList (config.nix.settings.secret-key-files or [ ])
    ++ lib.optionals config.nix.distributedBuilds (map (it: it.sshKey) config.nix.buildMachines)
  );
  passwords =
    let
      byFile = lib.groupBy (user: toString user.hashedPasswordFile) (
        lib.filter (user: user.enable or true && isOwn user.hashedPasswordFile) (lib.attrValues users.users)
      );
    in
    lib.mapAttrsToList (
      file: all:
      secret "the password of ${lib.concatMapStringsSep ", " (user: user.name) all}, who cannot log in without it" file
    ) byFile;

  # The only copy of the configuration, where channels are used.
  configurations = lib.unique (
    lib.filter (path: paths.isIn "/etc" path) (
      map (entry: dirOf (lib.removePrefix "nixos-config=" entry)) (
        lib.filter (entry: lib.hasPrefix "nixos-config=/" entry) config.nix.nixPath
      )
    )
  );

  persistentTimers = lib.filterAttrs (
    _: timer:
    lib.elem (timer.timerConfig.Persistent or false) [
      true
      "true"
      "yes"
    ]
  ) config.systemd.timers;
  part = path: {
    inherit path;
    why = known.state.${path}.what;
  };
in
lib.optional (!config.fileSystems ? "/nix/store") {
  directory = "/nix";
  why = known.state."/nix".what;
}
++ [
  {
    directory = "/var/lib/nixos";
    why = known.state."/var/lib/nixos".what;
    class = "identity";
  }
  {
    directory = "/var/lib/systemd";
    why = known.state."/var/lib/systemd".what;
    class = "identity";
    parts = [
      (part "/var/lib/systemd/random-seed" // { class = "identity"; })
      (part "/var/lib/systemd/credential.secret" // { class = "key"; })
    ]
    ++ lib.optional (persistentTimers != { }) {
      path = "/var/lib/systemd/timers";
      why = "when timers last ran: ${lib.concatStringsSep ", " (lib.attrNames persistentTimers)}";
      class = "history";
    }
    ++ lib.optional services.timesyncd.enable (
      part "/var/lib/systemd/timesync" // { class = "comfort"; }
    )
    ++ lib.optional (services.homed.enable or false) (
      part "/var/lib/systemd/home" // { class = "key"; }
    );
  }
  {
    file = "/etc/machine-id";
    why = known.state."/etc/machine-id".what;
    class = "identity";
  }
]
++ map (file: {
  inherit file;
  why = known.state."/etc/ssh/ssh_host_*".what;
  class = "identity";
}) hostKeys
++ map (file: {
  file = "${file}.pub";
  why = "the public half of a host key";
  audited = false;
}) hostKeys
++ map (secret "the key that secrets are decrypted with") (lib.subtractLists hostKeys keys)
++ lib.optional (isOwn gnupg) {
  directory = gnupg;
  mode = "0700";
  why = "the key that secrets are decrypted with";
  class = "key";
}
++ map (secret "read by every nixos-rebuild, which puts it into the initrd") ofInitrd
++ map (secret "a key of WireGuard") ofWireguard
++ map (secret "a key of Nix") ofNix
++ passwords
++ map (directory: {
  inherit directory;
  why = "the configuration: NIX_PATH names it";
  chosen = true;
}) configurations
++
  lib.optional
    (config.security.sudo.enable && !lib.hasInfix "lecture" config.security.sudo.extraConfig)
    {
      directory = "/var/db/sudo/lectured";
      mode = "0700";
      why = known.state."/var/db/sudo/lectured".what;
      class = "comfort";
    }
