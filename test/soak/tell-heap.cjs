// Required into a worker (`node --expose-gc --require`): at SIGUSR2 it tells, as a line of its log, what its heap holds without garbage.
process.on("SIGUSR2", () => {
  globalThis.gc();
  const { heapUsed } = process.memoryUsage();
  process.stdout.write(`${JSON.stringify({ level: 30, msg: "heap", heapUsed })}\n`);
});
