# Options that are gone, by their names: setting one is an assertion, and reading it is no error.
{ lib }:
{
  # The former place of the options, such as `environment.persistence."/persist"`.
  place,
  # By name: `text`, why it is gone, and what to do; `keeps`, values that still mean something; `description`.
  removed,
}:
{
  options = lib.mapAttrs (
    _: it:
    lib.mkOption {
      type = lib.types.nullOr lib.types.unspecified;
      default = null;
      internal = !it ? description;
      description = it.description or "Removed.";
    }
  ) removed;

  # Of the `config` and `options` that the options are among.
  assertions =
    config: options:
    lib.concatMap (
      name:
      let
        it = removed.${name};
      in
      lib.optional (config.${name} != null && !lib.elem config.${name} (it.keeps or [ ])) {
        assertion = false;
        message = ''
          The option definition `${place}.${name}' in ${
            lib.concatMapStringsSep " and " (file: "`${file}'") options.${name}.files
          } no longer has any effect; please remove it.
          ${it.text}'';
      }
    ) (lib.attrNames removed);
}
