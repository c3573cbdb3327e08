import { mkdir } from "node:fs/promises";
import type { Commit, SessionStore, VolumeRef } from "@longshore/session-store";
import { commitNoteSchema, volumeNoteSchema } from "@longshore/shared";
import type { CommandContext, GlobalOptions } from "./command-context.ts";
import { openConfiguredStore, type TenantOptions, tenantsOf } from "./configured-store.ts";
import { NoSuchVolumeError, UsageError } from "./errors.ts";
import { columns } from "./output.ts";
import { printableLine } from "./printable.ts";
import { showBytes } from "./progress-bar.ts";

export type VolumeOptions = GlobalOptions & TenantOptions;

/** `longshore volumes ls`: the volumes of the tenants, directly from the object store. */
export async function listVolumes(context: CommandContext, options: VolumeOptions): Promise<void> {
  const { signal, output } = context;
  const { configuration, store } = openConfiguredStore(context);
  try {
    const volumes: VolumeView[] = [];
    for (const tenant of tenantsOf(configuration, options)) {
      let page = await store.listVolumes(tenant, {}, signal);
      while (page.length > 0) {
        for (const volume of page) volumes.push(await view(store, { tenant, volume }, signal));
        page = await store.listVolumes(tenant, { after: page.at(-1) }, signal);
      }
    }
    output.result(volumes, () =>
      columns(
        volumes.map(({ tenant, volume, generation, committedAt = "-", entries, totalBytes }) => [
          ...[tenant, printableLine(volume), `generation ${generation}`, committedAt],
          ...[`${entries} entries`, showBytes(totalBytes)],
        ]),
      ),
    );
  } finally {
    await store.close();
  }
}

/**
 * `longshore volumes pull`: a volume as it was committed last, into a new or empty directory.
 *
 * @throws UsageError where it is not clear of which tenant; NoSuchVolumeError; DirectoryNotEmptyError
 */
export async function pullVolume(
  context: CommandContext,
  volume: string,
  directory: string,
  options: VolumeOptions,
): Promise<void> {
  const { signal, output } = context;
  const { configuration, store } = openConfiguredStore(context);
  try {
    const [tenant = "", ...others] = tenantsOf(configuration, options);
    if (others.length > 0) throw new UsageError("--tenant: say whose volume it is");
    const ref = { tenant, volume };
    const whole = await readWhole(store, ref, signal);
    if (whole === undefined) throw new NoSuchVolumeError(tenant, volume);
    await mkdir(directory, { recursive: true });
    (await store.hydrate(ref, whole, directory, { signal })).close();
    const { generation, entries, totalBytes } = whole;
    output.result(
      { tenant, volume, generation, entries, totalBytes, directory },
      () => `${entries} entries, ${totalBytes} bytes of generation ${generation} in ${directory}\n`,
    );
  } finally {
    await store.close();
  }
}

interface VolumeView {
  readonly tenant: string;
  readonly volume: string;
  readonly generation: number;
  readonly committedAt?: string;
  readonly entries: number;
  readonly totalBytes: number;
}

async function view(store: SessionStore, ref: VolumeRef, signal: AbortSignal): Promise<VolumeView> {
  const whole = await readWhole(store, ref, signal);
  if (whole === undefined) return { ...ref, generation: 0, entries: 0, totalBytes: 0 };
  const { generation, time, entries, totalBytes } = whole;
  return { ...ref, generation, committedAt: time, entries, totalBytes };
}

/** The newest generation that no turn made which may still be undone. */
async function readWhole(
  store: SessionStore,
  ref: VolumeRef,
  signal: AbortSignal,
): Promise<Commit | undefined> {
  const newest = await store.readNewest(ref, signal);
  if (newest?.partial !== true) return newest;
  const { sessionId, wholeGeneration } = volumeNoteSchema.parse(newest.note);
  // A turn is answered before the generation that it made is settled.
  const turn = await store.readNewest({ tenant: ref.tenant, sessionId }, signal);
  if (turn && commitNoteSchema.parse(turn.note).volumes?.[ref.volume] === newest.generation) return newest;
  return wholeGeneration === 0 ? undefined : await store.readCommit(ref, wholeGeneration, signal);
}
