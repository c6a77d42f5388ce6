# An option that is gone: setting it is an assertion, and reading it is no error.
{ lib }:
{
  # The former place of the option, such as `environment.persistence."/persist"`.
  place,
  # Its name.
  name,
  # Why it is gone, and what to do.
  text,
  # Which of its values still mean something, and what; none of them by default.
  keeps ? [ ],
  description ? null,
}:
{ config, options, ... }:
{
  options.${name} = lib.mkOption {
    type = lib.types.nullOr lib.types.unspecified;
    default = null;
    internal = description == null;
    description = if description == null then "Removed." else description;
  };
  config.assertions = lib.mkIf (config.${name} != null && !lib.elem config.${name} keeps) [
    {
      assertion = false;
      message = ''
        The option definition `${place}.${name}' in ${
          lib.concatMapStringsSep " and " (file: "`${file}'") options.${name}.files
        } no longer has any effect; please remove it.
        ${text}'';
    }
  ];
}
