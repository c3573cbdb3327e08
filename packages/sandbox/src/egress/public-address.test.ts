import { expect, test } from "vitest";
import { isPublicAddress, isPublicOrPrivateAddress } from "./public-address.ts";

test.each([
  "8.8.8.8",
  "1.1.1.1",
  "172.15.255.255",
  "172.32.0.1",
  "100.63.0.1",
  "2606:4700::1111",
  "2a00:1450::1",
])("%s is public", (address) => expect(isPublicAddress(address)).toBe(true));

test.each([
  ...["0.0.0.0", "10.1.2.3", "127.0.0.1", "127.255.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1"],
  ...["100.100.100.200", "192.0.0.192", "198.18.0.1", "224.0.0.1", "239.1.1.1", "255.255.255.255"],
  ...["::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1"],
  ...["::ffff:8.8.8.8", "::ffff:7f00:1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::"],
  ...["2001::1", "2001:db8::1", "100::1", "5f00::1", "", "localhost", "127.1", "2130706433"],
])("%s is not", (address) => expect(isPublicAddress(address)).toBe(false));

test.each(["8.8.8.8", "10.1.2.3", "127.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd12::1"])(
  "%s is public or of one's own network",
  (address) => expect(isPublicOrPrivateAddress(address)).toBe(true),
);

test.each([
  ...["0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "198.18.0.1", "100.100.100.200"],
  ...["::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe"],
  ...["64:ff9b::7f00:1", "", "localhost", "127.1"],
])("%s is neither", (address) => expect(isPublicOrPrivateAddress(address)).toBe(false));
