import { join } from "node:path";

export interface CephAddresses {
  readonly gatewayPort: number;
  /** The monitor's port for the second version of Ceph's protocol. */
  readonly monitorPort: number;
  /** The monitor's port for the first version: some of Ceph's own tools still speak only that. */
  readonly legacyMonitorPort: number;
}

/** The cluster's id: one for all of them, since each is alone below its own directory. */
export const clusterId = "2f6c7c52-6b0d-4d0a-9c53-1d6b4a2b7f10";

/** Of the objects' memory, in bytes: a limit that is not reserved. */
const storeBytes = 16 * 1024 ** 3;

/**
 * `ceph.conf` of a cluster of one monitor and one object store in memory: everything on loopback and
 * below one directory, no replication, no waiting for peers that don't exist.
 *
 * A machine that stands still for some seconds (a loaded one, a suspended one) must not leave the store waiting
 * for ever: a placement group whose read lease ran out serves nothing until a peer renews it, and there is
 * none. The lease is a part of the heartbeat's grace, so that is a day.
 *
 * Each admin socket is a file below the directory. Never give a Ceph tool `/dev/null` as one: as root it
 * replaces the device by a file.
 */
export function cephConfiguration(directory: string, addresses: CephAddresses): string {
  const at = (name: string): string => join(directory, name);
  return `[global]
fsid = ${clusterId}
mon host = [v2:127.0.0.1:${addresses.monitorPort},v1:127.0.0.1:${addresses.legacyMonitorPort}]
mon initial members = a
ms bind ipv6 = false
auth allow insecure global id reclaim = false
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 2000
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd heartbeat grace = 86400
mon osd report timeout = 86400
osd op thread timeout = 600
osd op thread suicide timeout = 3600
log file = ${at("log")}/$name.log
log to stderr = false
run dir = ${at("run")}
admin socket = ${at("run")}/$name.$pid.asok
crash dir = ${at("run")}
keyring = ${at("keyring")}

[mon]
mon data = ${at("mon")}
mon pg warn min per osd = 0
mon data avail warn = 1
mon data avail crit = 0
mon tick interval = 1
paxos propose interval = 0.02
paxos min wait = 0.01
debug mon = 0
debug paxos = 0

[osd]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd data = ${at("osd")}
osd objectstore = memstore
memstore device bytes = ${storeBytes}
osd op num shards = 4
osd class load list = *
osd class default list = *

[client.rgw]
rgw data = ${at("rgw")}
rgw frontends = beast endpoint=127.0.0.1:${addresses.gatewayPort} tcp_nodelay=1
rgw thread pool size = 64
rgw rados pool pg num min = 8
rgw enable usage log = false
rgw enable ops log = false
rgw gc obj min wait = 10
rgw gc processor period = 10
rgw gc processor max time = 10
debug rgw = 1
`;
}
