// An application in Node: it sends events one by one, and echoes what it is sent.
const http = require('http');

const server = http.createServer((request, answer) => {
  if (request.url.endsWith('/events')) {
    answer.writeHead(200, { 'Content-Type': 'text/event-stream' });
    let number = 0;
    const timer = setInterval(() => {
      answer.write(`data: ${number}\n\n`);
      if (++number === 5) { clearInterval(timer); answer.end(); }
    }, 20);
    request.on('close', () => clearInterval(timer));
    return;
  }
  answer.writeHead(200, { 'X-Method': request.method });
  request.pipe(answer);
});
server.listen(0, '127.0.0.1', () => console.log(`listens at ${server.address().port}`));
