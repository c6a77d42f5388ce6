# What one reads when something went wrong.
{ config, lib }:
lib.optional (!lib.elem (config.services.journald.storage or "persistent") [ "none" "volatile" ]) {
  directory = "/var/log";
  why = "the journal, and the logs of services";
  chosen = true;
}
++ lib.optional (config.systemd.coredump.enable or true) {
  directory = "/var/lib/systemd/coredump";
  why = "what is left of programs that crashed";
}
