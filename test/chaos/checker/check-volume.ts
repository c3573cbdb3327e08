import type { Check } from "./violation.ts";

/** A turn's change of a volume is committed with the turn, or not at all: whoever counts there counts in the session, too. */
export const checkVolume: Check = ({ sessions, volumeCounter }) => {
  const counters = sessions
    .filter(({ hasVolume }) => hasVolume)
    .map(({ generations }) => generations.at(-1)?.counter ?? 0);
  const counted = counters.reduce((sum, counter) => sum + counter, 0);
  if (counted === volumeCounter) return [];
  const what = `the volume's counter is ${volumeCounter}, and its sessions' are ${counters.join(", ")}`;
  return [{ check: "volume", what }];
};
