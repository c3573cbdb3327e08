/** Names of variables whose value is a secret, as a rule. */
const SECRET_NAME = /(?:^|_)(?:key|token|secret|password|passwd|pwd|credentials?|auth|cookie|pat)$/i;

/** What a secret of such a name looks like: long, without a space, with digits among the letters. A placeholder does not. */
const SECRET_VALUE = /^(?=.*\d)(?=.*[A-Za-z])\S{16,}$/;

/**
 * Beginnings of keys that say what they are, whatever the variable's name: of Anthropic and OpenAI, GitHub, GitLab, Slack, AWS,
 * Google, npm, Stripe, SendGrid; JSON web tokens; private keys; and addresses with a password.
 */
const SECRET_SHAPES: readonly RegExp[] = [
  /^sk-[\w-]{16,}/,
  /^gh[opusr]_\w{20,}/,
  /^github_pat_\w{20,}/,
  /^glpat-[\w-]{16,}/,
  /^xox[abposr]-[\w-]{10,}/,
  /^(?:AKIA|ASIA)[A-Z0-9]{16}$/,
  /^AIza[\w-]{30,}/,
  /^npm_\w{30,}/,
  /^[rs]k_(?:live|test)_\w{16,}/,
  /^SG\.[\w-]{16,}\./,
  /^eyJ[\w-]{8,}\.eyJ[\w-]{8,}\./,
  /-----BEGIN [A-Z ]*PRIVATE KEY-----/,
  /^[a-z][a-z0-9+.-]*:\/\/[^\s/:@]*:[^\s/@]+@/i,
];

/** Whether a variable of an environment seems to be a secret, by its name and its value or by its value alone. */
export function looksSecret(name: string, value: string): boolean {
  return (
    (SECRET_NAME.test(name) && SECRET_VALUE.test(value)) || SECRET_SHAPES.some((shape) => shape.test(value))
  );
}
