import { BlockList, isIPv4, isIPv6 } from "node:net";

/** All that is not a host of the public internet (IANA's special-purpose registries), multicast included. */
const IPV4 = [
  ...["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"],
  ...[
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
  ],
  ...["192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"],
];
/** Of the one block of public addresses, what is none, or holds another address in itself (6to4, Teredo, NAT64). */
const IPV6 = ["2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"];

const denied = new BlockList();
for (const [family, ranges] of [
  ["ipv4", IPV4],
  ["ipv6", IPV6],
] as const) {
  for (const range of ranges) {
    const [network = "", bits] = range.split("/");
    denied.addSubnet(network, Number(bits), family);
  }
}
/** Everything else of IPv6 is loopback, link-local, unique-local, multicast, mapped or not assigned. */
const assigned = new BlockList();
assigned.addSubnet("2000::", 3, "ipv6");

/** Whether an address is one of the public internet: nothing of the host, its networks or its cloud. */
export function isPublicAddress(address: string): boolean {
  if (isIPv4(address)) return !denied.check(address, "ipv4");
  if (!isIPv6(address) || address.includes("%")) return false;
  return assigned.check(address, "ipv6") && !denied.check(address, "ipv6");
}
