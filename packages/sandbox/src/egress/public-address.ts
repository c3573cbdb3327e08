import { BlockList, isIPv4, isIPv6 } from "node:net";

/** Networks of an operator's own, and the host itself. */
const PRIVATE_IPV4 = ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
const PRIVATE_IPV6 = ["::1/128", "fc00::/7"];
/** Where clouds tell a host its own credentials, though the addresses are of such networks (AWS, Alibaba). */
const METADATA = new Set(["fd00:ec2::254", "100.100.100.200"]);

/** All that is not a host of the public internet (IANA's special-purpose registries), multicast included. */
const IPV4 = [
  ...PRIVATE_IPV4,
  ...["0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24"],
  ...["192.88.99.0/24"],
  ...["192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"],
];
/** Of the one block of public addresses, what is none, or holds another address in itself (6to4, Teredo, NAT64). */
const IPV6 = ["2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"];

const denied = networks(IPV4, IPV6);
const ownNetworks = networks(PRIVATE_IPV4, PRIVATE_IPV6);
/** Everything else of IPv6 is loopback, link-local, unique-local, multicast, mapped or not assigned. */
const assigned = new BlockList();
assigned.addSubnet("2000::", 3, "ipv6");

/** Whether an address is one of the public internet: nothing of the host, its networks or its cloud. */
export function isPublicAddress(address: string): boolean {
  if (isIPv4(address)) return !denied.check(address, "ipv4");
  if (!isIPv6(address) || address.includes("%")) return false;
  return assigned.check(address, "ipv6") && !denied.check(address, "ipv6");
}

/** Whether an address is a public one, or of an operator's own networks: not link-local, and not a cloud's metadata. */
export function isPublicOrPrivateAddress(address: string): boolean {
  if (isPublicAddress(address)) return true;
  if (address.includes("%") || METADATA.has(address)) return false;
  return isIPv4(address)
    ? ownNetworks.check(address, "ipv4")
    : isIPv6(address) && !/[.]/.test(address) && ownNetworks.check(address, "ipv6");
}

function networks(ipv4: readonly string[], ipv6: readonly string[]): BlockList {
  const list = new BlockList();
  for (const [family, ranges] of [
    ["ipv4", ipv4],
    ["ipv6", ipv6],
  ] as const) {
    for (const range of ranges) {
      const [network = "", bits] = range.split("/");
      list.addSubnet(network, Number(bits), family);
    }
  }
  return list;
}
